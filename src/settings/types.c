#include "settings/types.h"

#include "base/address.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/escape.h"
#include "base/nearest.h"
#include "base/units.h"
#include "serve/services.h"
#include "settings/listen_address.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

const char *setting_expectation(const struct setting_row *row, char out[static SETTING_EXPECTATION_SIZE])
{
    size_t used = (size_t)snprintf(out, SETTING_EXPECTATION_SIZE, "must be ");
    if (row->type->expect)
        row->type->expect(row, out + used, SETTING_EXPECTATION_SIZE - used);
    else
        snprintf(out + used, SETTING_EXPECTATION_SIZE - used, row->type->expectation, row->minimum,
                 row->maximum);
    return out;
}

int setting_print(const struct setting_row *row, const void *base, FILE *out)
{
    return row->type->print(row, setting_field_const(row, base), out);
}

/* "LABEL = VALUE: must be ...", and `more`. Returns false, what every reader returns then. */
static bool refuse(const struct setting_value *value, const char *more)
{
    char text[VALUE_TEXT_SIZE], expectation[SETTING_EXPECTATION_SIZE];
    settings_file_report(value->file, settings_line(value->setting), "%s = %s: %s%s", value->label,
                         settings_value_text(value->setting, text),
                         setting_expectation(value->row, expectation), more);
    return false;
}

static bool refuse_memory(const struct setting_value *value)
{
    settings_file_report(value->file, settings_line(value->setting), "%s: %s", value->label,
                         strerrordesc_np(ENOMEM));
    return false;
}

/* NULL: it is no text. */
static const char *text_of(const struct setting_value *value)
{
    return config_setting_type(value->setting) == CONFIG_TYPE_STRING
               ? config_setting_get_string(value->setting)
               : NULL;
}

static bool is_whole(const config_setting_t *setting)
{
    int type = config_setting_type(setting);
    return type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
}

static bool is_within(const struct setting_row *row, uint64_t number)
{
    return (row->zero && number == 0) || (number >= row->minimum && number <= row->maximum);
}

/* ---- Numbers ---- */

static bool read_integer(const struct setting_value *value, void *field)
{
    if (!is_whole(value->setting))
        return refuse(value, text_of(value) ? ", a number without quotes"
                             : config_setting_type(value->setting) == CONFIG_TYPE_FLOAT ? ", a whole number"
                                                                                        : ", a number");
    int64_t number = settings_whole_number(value->setting);
    if (number < 0 || !is_within(value->row, (uint64_t)number))
        return refuse(value, "");
    if (value->row->type->size == sizeof(uint16_t))
        *(uint16_t *)field = (uint16_t)number;
    else
        *(unsigned *)field = (unsigned)number;
    return true;
}

static int print_integer(const struct setting_row *row, const void *field, FILE *out)
{
    fprintf(out, "%u",
            row->type->size == sizeof(uint16_t) ? *(const uint16_t *)field : *(const unsigned *)field);
    return 0;
}

/* ---- Durations ---- */

/* A text with a unit, as usec; without one it would be a number that stands in quotes by mistake. */
static bool read_duration_text(const struct setting_value *value, const char *text, uint64_t *out)
{
    size_t length = strlen(text);
    if (length > 0 && text[strspn(text, "0123456789.")] == '\0')
        return refuse(value, ", a number without quotes");
    if (units_parse_duration(text, out) < 0)
        return refuse(value, ", or text with a unit, such as \"250ms\" or \"5m\"");
    return true;
}

static bool read_duration(const struct setting_value *value, void *field)
{
    const config_setting_t *setting = value->setting;
    uint64_t usec = 0;
    if (text_of(value)) {
        if (!read_duration_text(value, text_of(value), &usec))
            return false;
    } else if (!config_setting_is_number(setting)) {
        return refuse(value, ", a number");
    } else {
        double seconds =
            is_whole(setting) ? (double)settings_whole_number(setting) : config_setting_get_float(setting);
        if (!(seconds >= 0 && seconds < 1e12)) /* nor NaN */
            return refuse(value, "");
        usec = (uint64_t)(seconds * (double)USEC_PER_SEC + 0.5);
        if (usec == 0 && seconds > 0)
            return refuse(value, "");
    }
    if (!is_within(value->row, usec))
        return refuse(value, "");
    *(uint64_t *)field = usec == 0 && value->row->zero ? USEC_NEVER : usec;
    return true;
}

/* As seconds with the fewest decimals, and at least one, which makes libconfig see a float. */
static int print_duration(const struct setting_row *row, const void *field, FILE *out)
{
    (void)row;
    char text[32];
    uint64_t usec = *(const uint64_t *)field == USEC_NEVER ? 0 : *(const uint64_t *)field;
    int length =
        snprintf(text, sizeof text, "%" PRIu64 ".%06" PRIu64, usec / USEC_PER_SEC, usec % USEC_PER_SEC);
    while (text[length - 1] == '0' && text[length - 2] != '.')
        length--;
    fprintf(out, "%.*s", length, text);
    return 0;
}

static void expect_duration(const struct setting_row *row, char *out, size_t size)
{
    double minimum = (double)row->minimum / (double)USEC_PER_SEC;
    snprintf(out, size, "%s%s%s%g to %" PRIu64 " seconds", row->zero ? "0 (" : "", row->zero ? row->zero : "",
             row->zero ? ") or " : "", minimum, row->maximum / USEC_PER_SEC);
}

static bool read_seconds(const struct setting_value *value, void *field)
{
    uint64_t usec = 0;
    if (!text_of(value))
        return read_integer(value, field);
    if (!read_duration_text(value, text_of(value), &usec))
        return false;
    if (usec % USEC_PER_SEC != 0 || !is_within(value->row, usec / USEC_PER_SEC))
        return refuse(value, ", whole ones");
    *(unsigned *)field = (unsigned)(usec / USEC_PER_SEC);
    return true;
}

/* ---- Sizes ---- */

static bool read_size(const struct setting_value *value, void *field)
{
    const char *text = text_of(value);
    uint64_t bytes = 0;
    if (text && text[0] != '\0' && text[strspn(text, "0123456789.")] == '\0')
        return refuse(value, ", a number without quotes");
    if (text && units_parse_size(text, &bytes) < 0)
        return refuse(value, ", or text with a unit, such as \"64k\" or \"1M\"");
    if (!text && !is_whole(value->setting))
        return refuse(value, config_setting_is_number(value->setting) ? ", a whole number" : ", a number");
    int64_t number = text ? (int64_t)bytes : settings_whole_number(value->setting);
    if (number < 0 || !is_within(value->row, (uint64_t)number))
        return refuse(value, "");
    *(uint64_t *)field = (uint64_t)number;
    return true;
}

/* libconfig takes a large number for one only with the L. */
static int print_size(const struct setting_row *row, const void *field, FILE *out)
{
    (void)row;
    uint64_t bytes = *(const uint64_t *)field;
    fprintf(out, "%" PRIu64 "%s", bytes, bytes > INT32_MAX ? "L" : "");
    return 0;
}

/* ---- Shares ---- */

static bool read_share(const struct setting_value *value, void *field)
{
    const config_setting_t *setting = value->setting;
    if (!config_setting_is_number(setting))
        return refuse(value, text_of(value) ? ", a number without quotes" : ", a number");
    double share =
        is_whole(setting) ? (double)settings_whole_number(setting) : config_setting_get_float(setting);
    if (!(share >= 0 && share <= 1)) /* nor NaN */
        return refuse(value, "");
    *(double *)field = share;
    return true;
}

/* With the fewest digits that are this number, and a point, which makes libconfig see a float. */
static int print_share(const struct setting_row *row, const void *field, FILE *out)
{
    (void)row;
    char text[32];
    double share = *(const double *)field;
    int digits = 1;
    do
        snprintf(text, sizeof text, "%.*g", digits, share);
    while (digits++ < 17 && strtod(text, NULL) != share);
    fprintf(out, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
    return 0;
}

/* ---- Words of a list ---- */

static bool read_boolean(const struct setting_value *value, void *field)
{
    if (config_setting_type(value->setting) != CONFIG_TYPE_BOOL)
        return refuse(value, text_of(value) ? ", without quotes" : "");
    *(bool *)field = config_setting_get_bool(value->setting) != CONFIG_FALSE;
    return true;
}

static int print_boolean(const struct setting_row *row, const void *field, FILE *out)
{
    (void)row;
    fputs(*(const bool *)field ? "true" : "false", out);
    return 0;
}

/* "; did you mean "info"?" when a name is near. */
static bool refuse_name(const struct setting_value *value, const struct nearest *nearest)
{
    char more[80] = "";
    const char *name = nearest_name(nearest);
    if (name)
        snprintf(more, sizeof more, "; did you mean \"%s\"?", name);
    return refuse(value, more);
}

static bool read_choice(const struct setting_value *value, void *field)
{
    const char *text = text_of(value);
    if (!text)
        return refuse(value, "");
    struct nearest nearest = nearest_to(text);
    for (const struct setting_choice *choice = value->row->choices; choice->name; choice++) {
        if (strcmp(choice->name, text) == 0) {
            memcpy(field, &choice->value, sizeof choice->value);
            return true;
        }
        nearest_offer(&nearest, choice->name);
    }
    return refuse_name(value, &nearest);
}

static int print_choice(const struct setting_row *row, const void *field, FILE *out)
{
    const struct setting_choice *choice = row->choices;
    while (choice[1].name && memcmp(&choice->value, field, sizeof choice->value) != 0)
        choice++;
    fprintf(out, "\"%s\"", choice->name);
    return 0;
}

/* Puts one more name at the end of "one of". */
static void expect_name(const char *name, char *out, size_t size)
{
    size_t used = strlen(out);
    const char *before = strchr(out, '"') ? "," : "";
    snprintf(out + used, size - used, "%s \"%s\"", before, name);
}

static void expect_choice(const struct setting_row *row, char *out, size_t size)
{
    snprintf(out, size, "one of");
    for (const struct setting_choice *choice = row->choices; choice->name; choice++)
        expect_name(choice->name, out, size);
}

static bool read_service(const struct setting_value *value, void *field)
{
    const char *text = text_of(value);
    if (!text)
        return refuse(value, "");
    const struct service *service = service_find(text);
    struct nearest nearest = nearest_to(text);
    for (size_t i = 0; services[i]; i++)
        nearest_offer(&nearest, services[i]->name);
    if (!service)
        return refuse_name(value, &nearest);
    *(const struct service **)field = service;
    return true;
}

static int print_service(const struct setting_row *row, const void *field, FILE *out)
{
    (void)row;
    fprintf(out, "\"%s\"", (*(const struct service *const *)field)->name);
    return 0;
}

static void expect_service(const struct setting_row *row, char *out, size_t size)
{
    (void)row;
    snprintf(out, size, "one of");
    for (size_t i = 0; services[i]; i++)
        expect_name(services[i]->name, out, size);
}

/* ---- Texts ---- */

static bool store_text(const struct setting_value *value, const char *text, void *field)
{
    char *copy = strdup(text);
    if (!copy)
        return refuse_memory(value);
    free(*(char **)field);
    *(char **)field = copy;
    return true;
}

static int print_text(const struct setting_row *row, const void *field, FILE *out)
{
    (void)row;
    CLEANUP(free_pointer) char *quoted = escape_quoted(*(char *const *)field);
    if (!quoted)
        return -ENOMEM;
    fputs(quoted, out);
    return 0;
}

static void clear_text(void *field)
{
    free(*(char **)field);
    *(char **)field = NULL;
}

static bool read_text(const struct setting_value *value, void *field)
{
    const char *text = text_of(value);
    return text && is_within(value->row, strlen(text)) ? store_text(value, text, field) : refuse(value, "");
}

static bool read_word(const struct setting_value *value, void *field)
{
    const char *text = text_of(value);
    return text && strpbrk(text, "\r\n") ? refuse(value, "") : read_text(value, field);
}

/* An address is parsed with its port once the listener is whole; what is no address is found here. */
static bool read_address(const struct setting_value *value, void *field)
{
    char reason[ADDRESS_PROBLEM_SIZE];
    const char *text = text_of(value);
    const char *problem = text ? listen_address_problem(text, reason) : "";
    return problem ? refuse(value, problem) : store_text(value, text, field);
}

static bool read_path(const struct setting_value *value, void *field)
{
    const char *text = text_of(value);
    if (!text || text[0] != '/' || strlen(text) > value->row->maximum)
        return refuse(value, text && text[0] == '@' ? "; abstract sockets are not supported" : "");
    return store_text(value, text, field);
}

static bool read_mode(const struct setting_value *value, void *field)
{
    const char *text = text_of(value);
    if (!text)
        return refuse(value, config_setting_is_number(value->setting) ? ", in quotes" : "");
    unsigned long mode = strtoul(text, NULL, 8);
    if (strlen(text) < 3 || strlen(text) > 4 || text[strspn(text, "01234567")] != '\0' ||
        mode > value->row->maximum)
        return refuse(value, "");
    *(mode_t *)field = (mode_t)mode;
    return true;
}

static int print_mode(const struct setting_row *row, const void *field, FILE *out)
{
    (void)row;
    fprintf(out, "\"%04o\"", *(const mode_t *)field);
    return 0;
}

/* ---- Networks ---- */

/* "10.0.0.1/8" is either a host or a network: says which network it would be. */
static void report_host_bits(const struct setting_value *value, const config_setting_t *element)
{
    const char *text = config_setting_get_string(element);
    char address[ADDRESS_TEXT_SIZE], network[ADDRESS_TEXT_SIZE];
    const char *slash = strchr(text, '/');
    struct prefix prefix;
    snprintf(address, sizeof address, "%.*s", slash ? (int)(slash - text) : 0, text);
    if (!slash || address_parse(address, 0, &prefix.base) < 0)
        return;
    prefix.length = (unsigned)strtoul(slash + 1, NULL, 10);
    address_mask(&prefix.base, prefix.length);
    settings_file_report(value->file, settings_element_line(value->file, element),
                         "%s: \"%s\" has bits set after its first %u; the network is \"%s\"", value->label,
                         text, prefix.length, prefix_format(&prefix, network));
}

/* Returns false when it is no network, after saying so. */
static bool read_network(const struct setting_value *value, const config_setting_t *element,
                         struct prefix *out)
{
    bool is_text = config_setting_type(element) == CONFIG_TYPE_STRING;
    if (settings_file_misread(value->file, element))
        return false;
    int r = is_text ? prefix_parse(config_setting_get_string(element), out) : -EINVAL;
    char text[VALUE_TEXT_SIZE];
    if (r == -EDOM)
        report_host_bits(value, element);
    else if (r < 0)
        settings_file_report(
            value->file, settings_element_line(value->file, element),
            "%s: %s is no network; it must be text such as \"192.0.2.0/24\" or \"2001:db8::/32\"",
            value->label, settings_value_text(element, text));
    return r == 0;
}

static bool read_networks(const struct setting_value *value, void *field)
{
    int type = config_setting_type(value->setting);
    if (type != CONFIG_TYPE_ARRAY && type != CONFIG_TYPE_LIST)
        return refuse(value, "");
    CLEANUP(prefix_list_clear) struct prefix_list list = {0};
    int length = config_setting_length(value->setting);
    list.items = calloc((size_t)length + 1, sizeof *list.items);
    if (!list.items)
        return refuse_memory(value);
    for (int i = 0; i < length; i++)
        list.count += read_network(value, config_setting_get_elem(value->setting, (unsigned)i),
                                   &list.items[list.count]);
    if (list.count < (size_t)length)
        return false;
    if (length == 0) /* no bytes differ from a list that is not set */
        prefix_list_clear(&list);
    prefix_list_clear(field);
    *(struct prefix_list *)field = list;
    list = (struct prefix_list){0};
    return true;
}

static int print_networks(const struct setting_row *row, const void *field, FILE *out)
{
    (void)row;
    char text[ADDRESS_TEXT_SIZE];
    const struct prefix_list *list = field;
    fputs("[", out);
    for (size_t i = 0; i < list->count; i++)
        fprintf(out, "%s \"%s\"", i ? "," : "", prefix_format(&list->items[i], text));
    fputs(" ]", out);
    return 0;
}

static int copy_networks(void *to, const void *from)
{
    return prefix_list_copy(to, from);
}

static void clear_networks(void *field)
{
    prefix_list_clear(field);
}

/* ---- Settings within settings, which read.c goes into ---- */

static bool read_group(const struct setting_value *value, void *field)
{
    (void)field;
    return config_setting_type(value->setting) == CONFIG_TYPE_GROUP || refuse(value, "");
}

static bool read_listeners(const struct setting_value *value, void *field)
{
    (void)field;
    return config_setting_type(value->setting) == CONFIG_TYPE_LIST || refuse(value, "");
}

/* ---- The table of types ---- */

#define PLAIN(type, name) .size = sizeof(type), .read = read_##name, .print = print_##name
#define TEXT .size = sizeof(char *), .is_text = true, .print = print_text, .clear = clear_text

const struct setting_type setting_integer = {PLAIN(unsigned, integer),
                                             .expectation = "%" PRIu64 " to %" PRIu64};
const struct setting_type setting_port = {PLAIN(uint16_t, integer), .expectation = "%" PRIu64 " to %" PRIu64};
const struct setting_type setting_duration = {PLAIN(uint64_t, duration), .expect = expect_duration};
const struct setting_type setting_seconds = {.size = sizeof(unsigned),
                                             .read = read_seconds,
                                             .print = print_integer,
                                             .expectation = "%" PRIu64 " to %" PRIu64 " seconds"};
const struct setting_type setting_size = {PLAIN(uint64_t, size),
                                          .expectation = "%" PRIu64 " to %" PRIu64 " bytes"};
const struct setting_type setting_share = {PLAIN(double, share), .expectation = "0.0 to 1.0"};
const struct setting_type setting_boolean = {PLAIN(bool, boolean), .expectation = "true or false"};
const struct setting_type setting_choice = {PLAIN(int, choice), .is_text = true, .expect = expect_choice};
const struct setting_type setting_text = {
    TEXT, .read = read_text, .expectation = "text of %" PRIu64 " to %" PRIu64 " bytes in quotes"};
const struct setting_type setting_word = {TEXT, .read = read_word,
                                          .expectation = "text of %" PRIu64 " to %" PRIu64
                                                         " bytes in quotes, without line breaks"};
const struct setting_type setting_address = {
    TEXT, .read = read_address,
    .expectation = "a numeric IPv4 or IPv6 address in quotes, or \"*\" for every address"};
const struct setting_type setting_path = {TEXT, .read = read_path,
                                          .expectation = "an absolute path of at most 107 bytes in quotes"};
const struct setting_type setting_mode = {PLAIN(mode_t, mode), .is_text = true,
                                          .expectation = "text of octal digits, \"0000\" to \"0777\""};
const struct setting_type setting_service = {PLAIN(const struct service *, service), .is_text = true,
                                             .expect = expect_service};
const struct setting_type setting_networks = {
    PLAIN(struct prefix_list, networks), .copy = copy_networks, .clear = clear_networks,
    .expectation = "a list of networks, such as [ \"192.0.2.0/24\", \"2001:db8::/32\" ]"};
const struct setting_type setting_group = {.read = read_group,
                                           .expectation = "a group, such as { level = \"info\"; }"};
const struct setting_type setting_listeners = {
    .read = read_listeners,
    .expectation = "a list of groups, such as ( { address = \"127.0.0.1\"; port = 7; } )"};

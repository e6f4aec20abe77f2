/* One value: its type, its bounds, its field. */
#include "daemon/settings_check.h"

#include "base/cleanup.h"
#include "base/nearest.h"
#include "daemon/listener_settings.h"
#include "daemon/problems.h"
#include "serve/services.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A value on its way into its field. */
struct value {
    struct settings_source *source;
    const config_setting_t *setting;
    const struct setting_row *row;
    const char *label;
    void *field;
};

/* "LABEL = VALUE: must be ...", and `more` behind it. Returns false, what every reader returns then. */
static bool refuse(const struct value *value, const char *more)
{
    char text[VALUE_TEXT_SIZE], expectation[SETTING_EXPECTATION_SIZE];

    settings_report(value->source, settings_line(value->setting), "%s = %s: %s%s", value->label,
                    settings_value_text(value->source, value->setting, text),
                    setting_expectation(value->row, expectation), more);
    return false;
}

static bool refuse_memory(const struct value *value)
{
    problems_add(value->source->problems, value->source->file, settings_line(value->setting), "%s: %s",
                 value->label, strerror(ENOMEM));
    return false;
}

static bool is_integer(const config_setting_t *setting)
{
    int type = config_setting_type(setting);

    return type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
}

static bool is_string(const config_setting_t *setting)
{
    return config_setting_type(setting) == CONFIG_TYPE_STRING;
}

/* What to say of a number that is none. */
static const char *number_hint(const config_setting_t *setting, bool whole)
{
    if (is_string(setting))
        return ", a number without quotes";
    if (whole && config_setting_type(setting) == CONFIG_TYPE_FLOAT)
        return ", a whole number";
    return config_setting_is_number(setting) ? "" : ", a number";
}

static int64_t integer_of(const config_setting_t *setting)
{
    return config_setting_type(setting) == CONFIG_TYPE_INT ? config_setting_get_int(setting)
                                                           : config_setting_get_int64(setting);
}

static bool read_integer(const struct value *value)
{
    int64_t number = is_integer(value->setting) ? integer_of(value->setting) : 0;

    if (!is_integer(value->setting) || !setting_in_range(value->row, (double)number))
        return refuse(value, number_hint(value->setting, true));
    if (value->row->type == SETTING_PORT)
        *(uint16_t *)value->field = (uint16_t)number;
    else
        *(int64_t *)value->field = number;
    return true;
}

static bool read_seconds(const struct value *value)
{
    double number;

    if (is_integer(value->setting))
        number = (double)integer_of(value->setting);
    else if (config_setting_type(value->setting) == CONFIG_TYPE_FLOAT)
        number = config_setting_get_float(value->setting);
    else
        return refuse(value, number_hint(value->setting, false));
    if (!setting_in_range(value->row, number))
        return refuse(value, "");
    *(double *)value->field = fabs(number); /* "-0.0" is in range, too */
    return true;
}

static bool read_boolean(const struct value *value)
{
    if (config_setting_type(value->setting) != CONFIG_TYPE_BOOL)
        return refuse(value, is_string(value->setting) ? ", without quotes" : "");
    *(bool *)value->field = config_setting_get_bool(value->setting) != CONFIG_FALSE;
    return true;
}

/* "; did you mean "info"?" when a name is near. */
static bool refuse_name(const struct value *value, const char *nearest)
{
    char more[80] = "";

    if (nearest)
        (void)snprintf(more, sizeof more, "; did you mean \"%s\"?", nearest);
    return refuse(value, more);
}

static bool read_choice(const struct value *value)
{
    const char *names[16] = {NULL};
    const char *text;
    size_t count = 0;

    if (!is_string(value->setting))
        return refuse(value, "");
    text = config_setting_get_string(value->setting);
    for (const struct setting_choice *choice = value->row->choices; choice->name; choice++) {
        if (strcmp(choice->name, text) == 0) {
            *(int64_t *)value->field = choice->value;
            return true;
        }
        if (count + 1 < sizeof names / sizeof *names)
            names[count++] = choice->name;
    }
    return refuse_name(value, nearest_of(text, names));
}

static bool read_service(const struct value *value)
{
    const char *names[32] = {NULL};
    const struct service *service;
    const char *text;

    if (!is_string(value->setting))
        return refuse(value, "");
    text = config_setting_get_string(value->setting);
    service = service_find(text);
    for (size_t i = 0; services[i] && i + 1 < sizeof names / sizeof *names; i++)
        names[i] = services[i]->name;
    if (!service)
        return refuse_name(value, nearest_of(text, names));
    *(const struct service **)value->field = service;
    return true;
}

/* Takes the text over into the field. */
static bool store_text(const struct value *value, const char *text)
{
    char *copy = strdup(text);

    if (!copy)
        return refuse_memory(value);
    free(*(char **)value->field);
    *(char **)value->field = copy;
    return true;
}

static bool read_text(const struct value *value)
{
    const char *text;

    if (!is_string(value->setting))
        return refuse(value, "");
    text = config_setting_get_string(value->setting);
    if (!setting_in_range(value->row, (double)strlen(text)))
        return refuse(value, "");
    if (value->row->type == SETTING_WORD && strpbrk(text, "\r\n"))
        return refuse(value, "");
    return store_text(value, text);
}

/* An address is parsed with its port, in listener_settings.c, once the row is whole; what is no address is
 * found here. */
static bool read_address(const struct value *value)
{
    char reason[LISTENER_WHY_SIZE];
    const char *text, *problem;

    if (!is_string(value->setting))
        return refuse(value, "");
    text = config_setting_get_string(value->setting);
    problem = listener_address_problem(text, reason);
    if (problem)
        return refuse(value, problem);
    return store_text(value, text);
}

static bool read_path(const struct value *value)
{
    const char *text;

    if (!is_string(value->setting))
        return refuse(value, "");
    text = config_setting_get_string(value->setting);
    if (text[0] == '@')
        return refuse(value, "; abstract sockets are not supported");
    if (text[0] != '/' || strlen(text) > (size_t)value->row->maximum)
        return refuse(value, "");
    return store_text(value, text);
}

static bool read_mode(const struct value *value)
{
    const char *text;
    unsigned long mode;

    if (!is_string(value->setting))
        return refuse(value, config_setting_is_number(value->setting) ? ", in quotes" : "");
    text = config_setting_get_string(value->setting);
    if (strlen(text) < 3 || strlen(text) > 4 || text[strspn(text, "01234567")] != '\0')
        return refuse(value, "");
    mode = strtoul(text, NULL, 8);
    if (mode > (unsigned long)value->row->maximum)
        return refuse(value, "");
    *(mode_t *)value->field = (mode_t)mode;
    return true;
}

/* "10.0.0.1/8" is either a host or a network: says which network it would be. */
static void report_host_bits(const struct value *value, const config_setting_t *element, const char *text)
{
    char start[ADDRESS_TEXT_SIZE], network[ADDRESS_TEXT_SIZE];
    const char *slash = strchr(text, '/');
    struct prefix prefix;

    (void)snprintf(start, sizeof start, "%.*s", slash ? (int)(slash - text) : 0, text);
    if (!slash || address_parse(start, 0, &prefix.base) < 0)
        return;
    prefix.length = (unsigned)strtoul(slash + 1, NULL, 10);
    address_mask(&prefix.base, prefix.length);
    settings_report(value->source, settings_line(element),
                    "%s: \"%s\" has bits set behind its first %u; the network is \"%s\"", value->label, text,
                    prefix.length, prefix_format(&prefix, network));
}

/* Returns false when it is no network, after saying so. */
static bool read_network(const struct value *value, const config_setting_t *element, struct prefix *out)
{
    const struct scan_node *node = settings_node(element);
    char text[VALUE_TEXT_SIZE];
    int r = -EINVAL;

    if (node && node->faulty)
        return false;
    if (is_string(element))
        r = prefix_parse(config_setting_get_string(element), out);
    if (r == -EDOM)
        report_host_bits(value, element, config_setting_get_string(element));
    else if (r < 0)
        settings_report(value->source, settings_line(element),
                        "%s: %s is no network; it must be text such as \"192.0.2.0/24\" or \"2001:db8::/32\"",
                        value->label, settings_value_text(value->source, element, text));
    return r == 0;
}

static bool read_networks(const struct value *value)
{
    CLEANUP(prefix_list_clear) struct prefix_list list = {0};
    struct prefix_list *field = value->field;
    int length;
    bool good = true;

    if (config_setting_type(value->setting) != CONFIG_TYPE_ARRAY &&
        config_setting_type(value->setting) != CONFIG_TYPE_LIST)
        return refuse(value, "");
    length = config_setting_length(value->setting);
    list.items = calloc((size_t)length + 1, sizeof *list.items);
    if (!list.items)
        return refuse_memory(value);
    for (int i = 0; i < length; i++) {
        const config_setting_t *element = config_setting_get_elem(value->setting, (unsigned)i);

        if (read_network(value, element, &list.items[list.count]))
            list.count++;
        else
            good = false;
    }
    if (!good)
        return false;
    prefix_list_clear(field);
    *field = list;
    list = (struct prefix_list){0};
    return true;
}

bool setting_read(struct settings_source *source, const config_setting_t *setting,
                  const struct setting_row *row, const char *label, void *base)
{
    struct value value = {source, setting, row, label, setting_field(row, base)};
    const struct scan_node *node = settings_node(setting);

    if (node && node->faulty)
        return false;
    switch (row->type) {
    case SETTING_INTEGER:
    case SETTING_PORT:
        return read_integer(&value);
    case SETTING_SECONDS:
        return read_seconds(&value);
    case SETTING_BOOLEAN:
        return read_boolean(&value);
    case SETTING_CHOICE:
        return read_choice(&value);
    case SETTING_TEXT:
    case SETTING_WORD:
        return read_text(&value);
    case SETTING_ADDRESS:
        return read_address(&value);
    case SETTING_PATH:
        return read_path(&value);
    case SETTING_MODE:
        return read_mode(&value);
    case SETTING_SERVICE:
        return read_service(&value);
    case SETTING_NETWORKS:
        return read_networks(&value);
    case SETTING_LISTENERS:
        return config_setting_type(setting) == CONFIG_TYPE_LIST || refuse(&value, "");
    case SETTING_GROUP:
        return config_setting_type(setting) == CONFIG_TYPE_GROUP || refuse(&value, "");
    }
    return false;
}

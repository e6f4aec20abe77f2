/* Finding a row by its name, and saying what a row allows. */
#include "daemon/setting_table.h"

#include "base/nearest.h"
#include "serve/services.h"

#include <stdio.h>
#include <string.h>

const struct setting_row *setting_find(enum setting_scope scope, const char *name, size_t length)
{
    for (const struct setting_row *row = setting_table; row->name; row++) {
        if (row->scope == scope && strlen(row->name) == length && memcmp(row->name, name, length) == 0)
            return row;
    }
    return NULL;
}

const char *setting_nearest(enum setting_scope scope, const char *name)
{
    struct nearest nearest = nearest_to(name);

    for (const struct setting_row *row = setting_table; row->name; row++)
        if (row->scope == scope)
            nearest_offer(&nearest, row->name);
    return nearest_name(&nearest);
}

/* "must be one of "a", "b", "c"". */
static void expect_choice(const struct setting_row *row, char out[static SETTING_EXPECTATION_SIZE])
{
    size_t used = (size_t)snprintf(out, SETTING_EXPECTATION_SIZE, "must be one of");

    for (const struct setting_choice *choice = row->choices; choice->name; choice++) {
        if (used >= SETTING_EXPECTATION_SIZE)
            return;
        used += (size_t)snprintf(out + used, SETTING_EXPECTATION_SIZE - used, "%s \"%s\"",
                                 choice == row->choices ? "" : ",", choice->name);
    }
}

/* The same with the names of the services. */
static void expect_service(char out[static SETTING_EXPECTATION_SIZE])
{
    size_t used = (size_t)snprintf(out, SETTING_EXPECTATION_SIZE, "must be one of");

    for (size_t i = 0; services[i]; i++) {
        if (used >= SETTING_EXPECTATION_SIZE)
            return;
        used += (size_t)snprintf(out + used, SETTING_EXPECTATION_SIZE - used, "%s \"%s\"", i ? "," : "",
                                 services[i]->name);
    }
}

const char *setting_expectation(const struct setting_row *row, char out[static SETTING_EXPECTATION_SIZE])
{
#define SAY(...) (void)snprintf(out, SETTING_EXPECTATION_SIZE, __VA_ARGS__)
    switch (row->type) {
    case SETTING_INTEGER:
    case SETTING_PORT:
        SAY("must be %.0f to %.0f", row->minimum, row->maximum);
        break;
    case SETTING_SECONDS:
        if (row->zero)
            SAY("must be 0 (%s) or %g to %.0f seconds", row->zero, row->minimum, row->maximum);
        else
            SAY("must be %g to %.0f seconds", row->minimum, row->maximum);
        break;
    case SETTING_BOOLEAN:
        SAY("must be true or false");
        break;
    case SETTING_CHOICE:
        expect_choice(row, out);
        break;
    case SETTING_TEXT:
        SAY("must be text of %.0f to %.0f bytes in quotes", row->minimum, row->maximum);
        break;
    case SETTING_WORD:
        SAY("must be text of %.0f to %.0f bytes in quotes, without line breaks", row->minimum, row->maximum);
        break;
    case SETTING_ADDRESS:
        SAY("must be a numeric IPv4 or IPv6 address in quotes, or \"*\" for every address");
        break;
    case SETTING_PATH:
        SAY("must be an absolute path of at most %.0f bytes in quotes", row->maximum);
        break;
    case SETTING_MODE:
        SAY("must be text of octal digits, \"0000\" to \"0777\"");
        break;
    case SETTING_SERVICE:
        expect_service(out);
        break;
    case SETTING_NETWORKS:
        SAY("must be a list of networks, such as [ \"192.0.2.0/24\", \"2001:db8::/32\" ]");
        break;
    case SETTING_LISTENERS:
        SAY("must be a list of groups, such as ( { address = \"127.0.0.1\"; port = 7; } )");
        break;
    case SETTING_GROUP:
        SAY("must be a group, such as { level = \"info\"; }");
        break;
    }
#undef SAY
    return out;
}

bool setting_in_range(const struct setting_row *row, double value)
{
    if (row->zero && value == 0)
        return true;
    return value >= row->minimum && value <= row->maximum; /* false for NaN */
}

const struct setting_row *setting_next_restart(const struct settings *before, const struct settings *after,
                                               const struct setting_row *previous)
{
    for (const struct setting_row *row = previous ? previous + 1 : setting_table; row->name; row++) {
        /* Only whole numbers need a restart; a row of another type would have to be compared here. */
        if (row->needs_restart && row->type == SETTING_INTEGER &&
            *(const int64_t *)setting_field_const(row, before) !=
                *(const int64_t *)setting_field_const(row, after))
            return row;
    }
    return NULL;
}

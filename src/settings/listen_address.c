#include "settings/listen_address.h"

#include "base/address.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Of a text that is no address, with a '%' in it. */
static const char *interface_problem(const char *text, char *out)
{
    struct address address;
    char bare[ADDRESS_TEXT_SIZE];
    const char *interface = strchr(text, '%') + 1;
    snprintf(bare, sizeof bare, "%.*s", (int)(interface - 1 - text), text);
    if (address_parse(bare, 0, &address) < 0)
        return "";
    if (!address_is_link_local(&address) && !address_is_multicast(&address))
        return "; only a link-local IPv6 address has an interface";
    snprintf(out, ADDRESS_PROBLEM_SIZE, "; there is no interface \"%.64s\" ('ip link' lists them)",
             interface);
    return out;
}

static const char *syntax_problem(const char *text, char *out)
{
    struct address address;
    char inner[ADDRESS_TEXT_SIZE];
    if (strcasecmp(text, "localhost") == 0)
        return ", not a name; did you mean \"127.0.0.1\" or \"::1\"?";
    if (text[0] == '[') {
        snprintf(inner, sizeof inner, "%.*s", (int)strcspn(text + 1, "]"), text + 1);
        if (address_parse(inner, 0, &address) == 0)
            return ", without brackets";
    }
    if (strchr(text, '%'))
        return interface_problem(text, out);
    if (text[strspn(text, "0123456789.:/abcdefABCDEF")] != '\0')
        return ", not a name";
    return "";
}

const char *listen_address_problem(const char *text, char out[static ADDRESS_PROBLEM_SIZE])
{
    struct address address;
    if (strcmp(text, "*") == 0)
        return NULL;
    if (address_parse(text, 0, &address) < 0)
        return syntax_problem(text, out);
    if (address_is_multicast(&address))
        return "; no TCP client can reach a multicast address";
    if (address_is_broadcast(&address))
        return "; no TCP client can reach the broadcast address";
    if (address_is_link_local(&address) && address.scope == 0) {
        snprintf(out, ADDRESS_PROBLEM_SIZE,
                 "; a link-local address needs its interface, such as \"%.48s%%eth0\"", text);
        return out;
    }
    return NULL;
}

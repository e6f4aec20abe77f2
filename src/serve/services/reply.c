/* The listener's text after the first bytes that the client sends, then a FIN: a canned answer to a request.
 * */

#include "serve/service.h"

const struct service service_reply = {
    .name = "reply",
    .summary = "the listener's text after the first bytes, then it closes",
    .takes_text = true,
    .speaks_when_asked = true,
    .produce = service_produce_text,
};

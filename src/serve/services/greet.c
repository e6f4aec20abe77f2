/* The listener's text, then a FIN: the quote of the day (RFC 865) and every kind of banner. */

#include "serve/service.h"

const struct service service_greet = {
    .name = "greet",
    .summary = "the listener's text, then it closes",
    .takes_text = true,
    .produce = service_produce_text,
};

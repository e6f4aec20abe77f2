/* One line a service: what src/serve/services/ defines and the table in service.c lists. */
#pragma once

#include "serve/service.h"

extern const struct service service_echo;
extern const struct service service_upper;
extern const struct service service_discard;
extern const struct service service_chargen;
extern const struct service service_daytime;
extern const struct service service_time;
extern const struct service service_greet;
extern const struct service service_reply;

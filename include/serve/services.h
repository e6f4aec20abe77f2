/* The services by their names. Pure; any thread. */
#pragma once

#include "serve/service.h"

/* In the order in which they are shown, ended by NULL. */
extern const struct service *const services[];

/* NULL when there is no such service. */
const struct service *service_find(const char *name);

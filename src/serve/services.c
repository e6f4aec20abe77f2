#include "serve/services.h"

#include <string.h>

extern const struct service service_echo, service_upper, service_discard, service_chargen, service_daytime,
    service_time, service_greet, service_reply, service_whoami;

const struct service *const services[] = {
    &service_echo, &service_upper, &service_discard, &service_chargen, &service_daytime,
    &service_time, &service_greet, &service_reply,   &service_whoami,  NULL,
};

const struct service *service_find(const char *name)
{
    for (const struct service *const *service = services; *service; service++)
        if (strcmp((*service)->name, name) == 0)
            return *service;
    return NULL;
}

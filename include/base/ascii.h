/* ASCII letters, whatever the locale is. */
#pragma once

#include <stddef.h>

/* a-z become A-Z; every other byte stays, so UTF-8 text stays valid. Pure; any thread. */
void ascii_to_upper(void *bytes, size_t length);

/* Whether an address can be listened on. Pure, but for the names of interfaces; any thread. */
#pragma once

#define ADDRESS_PROBLEM_SIZE 128

/* NULL when it can; or what to add to "must be a numeric address": "; did you mean ...?", "; there is no
 * interface ...", or "". An address that no client can ever reach is refused: multicast, broadcast,
 * link-local without its interface. May write to `out`. */
const char *listen_address_problem(const char *text, char out[static ADDRESS_PROBLEM_SIZE]);

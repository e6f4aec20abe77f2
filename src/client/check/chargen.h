/* What a server of chargen sends (RFC 864): rotating lines of 72 of the 95 printable characters of ASCII, the
 * same again after 95 lines. Pure; any thread, after chargen_init. */
#pragma once

#include "client/check/diagnosis.h"

/* Fills in the pattern. Main thread, before any other starts. */
void chargen_init(void);

/* The place in the pattern of a stream that begins with this byte: most begin with a blank, some a line
 * later. A byte that begins no line is taken for the first. */
size_t chargen_phase(uint8_t first);

/* Returns how many of the bytes are right at that place, which is moved by them: `length` when all are. */
size_t chargen_check(size_t *phase, const void *bytes, size_t length);

/* What is wrong with what came at `offset` of the stream, where the pattern is at `phase`. */
struct fault chargen_diagnose(size_t phase, uint64_t offset, struct span came);

/* At least CHARGEN_SENT bytes of it, to send. */
#define CHARGEN_SENT ((size_t)256 << 10)
const uint8_t *chargen_bytes(void);

/* CRC-32C, the checksum of Castagnoli's polynomial (RFC 3720, 12.1; RFC 9260, appendix A). Pure; any thread.
 */
#pragma once

#include "base/span.h"

/* Of the bytes alone with a `crc` of 0; else of those that made `crc`, followed by these. */
uint32_t crc32c(uint32_t crc, struct span bytes);

/* What tcpecho(1) ends with, sysexits.h where it has a number for it. EXIT_SUCCESS is 0. */
#pragma once

#define EXIT_WRONG_ANSWER 1 /* wrong, missing or repeated bytes; lost messages; an outage */
#define EXIT_USAGE 64
#define EXIT_UNKNOWN_NAME 68 /* of a host or service; no such socket file */
#define EXIT_REFUSED 69
#define EXIT_UNREACHABLE 70 /* sysexits.h would have EX_SOFTWARE, which this program has no use for */
#define EXIT_SYSTEM 71      /* this host: short of memory, descriptors or ports, or without an address */
#define EXIT_FILE 74        /* stdin cannot be read, or stdout or the metrics not written */
#define EXIT_TIMED_OUT 75
#define EXIT_CLOSED_EARLY 76 /* by the other side, with bytes still on their way to it */
#define EXIT_NO_PERMISSION 77
#define EXIT_INTERRUPTED 130 /* as a shell shows SIGINT */

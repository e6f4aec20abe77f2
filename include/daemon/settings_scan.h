/* A first pass over the text of a settings file, before libconfig sees it.
 *
 * libconfig 1.5 wraps integers silently, drops NUL bytes, reads "@include" files behind the daemon's back
 * (and ends the process when one is a directory), takes an unclosed comment for the end of the file and stops
 * at the first duplicate. The scan reports all of these, and leaves a copy of the text in which each is
 * replaced by something of the same length that does no harm, so that libconfig can go on and the rest of the
 * file is checked in the same run.
 *
 * It also notes where each setting and each element of a list stands, which libconfig knows only roughly (an
 * element's line is that of the token behind it). */
#pragma once

#include "daemon/setting_table.h"

#include <stdbool.h>
#include <stddef.h>

struct problems;

/* A setting or an element of a list, in the order of the text: the order in which libconfig's tree is walked.
 */
struct scan_node {
    size_t value;  /* where its number or boolean stands in the text; 0: it is something else */
    size_t length; /* of that */
    int line;
    int end_line;    /* of a group, list or array: where it is closed; INT_MAX: never */
    bool named;      /* a setting; false: an element */
    bool faulty;     /* the value was replaced: already reported */
    bool duplicate;  /* the name was replaced: already reported */
    bool incomplete; /* what is missing in it may be only unread */
};

struct settings_scan {
    char *text;   /* owned: what libconfig may read. Ends in a newline and a NUL, and holds no other NUL */
    char *source; /* owned: the same before anything was replaced, but for the NULs */
    size_t length;
    struct scan_node *nodes; /* owned */
    size_t node_count;
    int lines;
    int cut_line;             /* from here on the text was blanked; 0: nowhere */
    int unclosed_string_line; /* the cut's reason, which is not reported yet; 0: another reason, which is */
    size_t duplicates;        /* reported */
};

/* Returns 0 with *out owned by the caller (settings_scan_clear) and what was found added to `problems`, or
 * -ENOMEM. */
int settings_scan(const char *bytes, size_t length, const char *file, struct problems *problems,
                  struct settings_scan *out);
void settings_scan_clear(struct settings_scan *scan); /* also for CLEANUP() */

#define EXPLANATION_SIZE 256

/* What is most likely behind libconfig's "syntax error" in this line: " (text must stand in quotes)". Empty
 * when nothing can be said. Returns `out`. */
const char *settings_explain(const struct settings_scan *scan, int line, char out[static EXPLANATION_SIZE]);

/* What a watch tells programs: JSON, metrics, and a check. */
#pragma once

#include "client/options.h"
#include "client/watch/report.h"

/* With the exit status, and as its message what was told last on stderr. */
void watch_print_json(const struct watch_summary *summary, int exit_status, FILE *out);

/* A struct watch_summary, also while it goes on: for prometheus_write. */
void watch_write_metrics(FILE *out, const void *summary);

/* Returns NAGIOS_STATUS; or, without a line, EXIT_FILE, when nothing is worse than that the metrics could not
 * be written (`is_file_bad`), which has been told. */
int watch_print_check(const struct watch_summary *summary, const struct client_options *options,
                      bool is_file_bad, FILE *out);

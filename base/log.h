/*
 * Logging: one line on standard error (or the journal's <N> prefix when it is a socket of the
 * journal). No secret, file name, path, query or content is ever logged: promise P1 covers logs.
 * Name objects by their number.
 *
 * Library folders use log_debug only. Threads: any.
 */
#ifndef CACHET_BASE_LOG_H
#define CACHET_BASE_LOG_H

#include "base/macros.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Nothing above `level` is printed. Default: INFO. */
void log_set_level(enum log_level level);

void log_print(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define log_error(...) log_print(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_print(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_print(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_print(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif

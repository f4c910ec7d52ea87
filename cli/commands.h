/* The entries of the table, each defined in the file of its verb. */
#ifndef CACHET_CLI_COMMANDS_H
#define CACHET_CLI_COMMANDS_H

#include "cli/command.h"

extern const struct command command_init;
extern const struct command command_mount;
extern const struct command command_umount;
extern const struct command command_status;
extern const struct command command_sync;
extern const struct command command_online;
extern const struct command command_offline;
extern const struct command command_stat;
extern const struct command command_pin;
extern const struct command command_unpin;
extern const struct command command_free;
extern const struct command command_warm;
extern const struct command command_ready;
extern const struct command command_record;
extern const struct command command_watch;
extern const struct command command_wait;
extern const struct command command_journal;
extern const struct command command_journal_ls;
extern const struct command command_journal_top;
extern const struct command command_journal_show;
extern const struct command command_journal_retry;
extern const struct command command_journal_hold;
extern const struct command command_journal_drop;
extern const struct command command_journal_export;
extern const struct command command_journal_import;
extern const struct command command_conflicts;
extern const struct command command_conflicts_ls;
extern const struct command command_conflicts_show;
extern const struct command command_conflicts_diff;
extern const struct command command_conflicts_resolve;
extern const struct command command_export;
extern const struct command command_view;
extern const struct command command_import;
extern const struct command command_lock;
extern const struct command command_unlock;
extern const struct command command_wipe;
extern const struct command command_enroll;
extern const struct command command_keys;
extern const struct command command_rotate;
extern const struct command command_rekey;
extern const struct command command_token;
extern const struct command command_passphrase;
extern const struct command command_doctor;
extern const struct command command_events;
extern const struct command command_job_run;
extern const struct command command_job_ls;
extern const struct command command_job_result;
extern const struct command command_verify;
extern const struct command command_serve;
extern const struct command command_serve_token_add;
extern const struct command command_serve_token_ls;
extern const struct command command_serve_token_revoke;
extern const struct command command_serve_account_ls;
extern const struct command command_serve_account_close;
extern const struct command command_serve_audit;
extern const struct command command_serve_backup;
extern const struct command command_serve_restored;
extern const struct command command_serve_device_ls;
extern const struct command command_serve_device_revoke;
extern const struct command command_serve_device_trust;
extern const struct command command_serve_device_untrust;
extern const struct command command_serve_rotate;
extern const struct command command_serve_store_add;
extern const struct command command_serve_store_ls;
extern const struct command command_serve_import;
extern const struct command command_serve_query_add;
extern const struct command command_serve_query_ls;
extern const struct command command_serve_query_rm;
extern const struct command command_help;
extern const struct command command_version;

#endif

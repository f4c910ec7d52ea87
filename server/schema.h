/* The database of the server: its specification as commented SQL in schema.c, and how it is brought
 * up to date. */
#ifndef CACHET_SERVER_SCHEMA_H
#define CACHET_SERVER_SCHEMA_H

#define SCHEMA_APPLICATION_ID 0x43524563 /* "CREc" */
#define SCHEMA_VERSION 5

/* schema_steps[v] brings a database of version v to version v + 1; user_version is set by the
 * caller, same transaction. */
extern const char *const server_schema_steps[SCHEMA_VERSION];

#endif

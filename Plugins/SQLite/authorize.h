/* The authorizer of SQL statements. */
#ifndef SQLITE_AUTHORIZE_H
#define SQLITE_AUTHORIZE_H

/*
 * SQLite calls it for each action of a statement while it prepares the statement. It allows reading and pragmas that
 * return information about the schema, and refuses all other actions. It stores the refused action in the connection,
 * which is `argument`.
 */
int authorize(void *argument, int action, const char *one, const char *two, const char *database, const char *inner);

#endif

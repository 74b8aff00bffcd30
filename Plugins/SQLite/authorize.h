/* The authorizer: decides what a statement may do. */
#ifndef SQLITE_AUTHORIZE_H
#define SQLITE_AUTHORIZE_H

/*
 * The callback for sqlite3_set_authorizer. SQLite calls it for each action of a statement, while it prepares the
 * statement. It allows only reads and pragmas that describe the schema. `argument` is the connection; a rejected action
 * is stored in its field `refused`.
 */
int authorize(void *argument, int action, const char *one, const char *two, const char *database, const char *inner);

#endif

/* What a statement may do. */
#ifndef SQLITE_AUTHORIZE_H
#define SQLITE_AUTHORIZE_H

/*
 * SQLite asks for each thing a statement would do while it is prepared. Reading is allowed, with pragmas that tell of the
 * schema, and nothing else; what was refused is left in the connection, which is `argument`.
 */
int authorize(void *argument, int action, const char *one, const char *two, const char *database, const char *inner);

#endif

/* SQLite's function instr, in a time that is the sum of the two lengths and not their product. */
#ifndef SQLITE_INSTR_H
#define SQLITE_INSTR_H

#include "database.h"

/* Puts it in the place of SQLite's; what that answers. */
int replace_instr(struct connection *connection);

#endif

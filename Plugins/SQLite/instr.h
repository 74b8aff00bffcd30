/* A replacement for SQLite's function instr, with a run time of the sum of the two lengths instead of their product. */
#ifndef SQLITE_INSTR_H
#define SQLITE_INSTR_H

#include "database.h"

/* Replaces SQLite's instr. Returns a result code of SQLite. */
int replace_instr(struct connection *connection);

#endif

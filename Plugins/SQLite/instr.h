/* A replacement for SQLite's function instr. Its time is the sum of the two lengths, not their product. */
#ifndef SQLITE_INSTR_H
#define SQLITE_INSTR_H

#include "database.h"

/* Replaces SQLite's instr on this connection. Returns the SQLite result code. */
int replace_instr(struct connection *connection);

#endif

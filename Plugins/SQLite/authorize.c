#include "authorize.h"

#include "database.h"

#include <string.h>
#include <strings.h>

/* Pragmas that only return information, and none about the location of the file. */
static const char *const read_pragmas[] = {
    "table_info",   "table_xinfo",      "table_list",       "index_list",    "index_info", "index_xinfo",
    "foreign_key_list", "collation_list", "function_list", "module_list", "pragma_list", "compile_options",
};
/* Pragmas that change something if they have a value. */
static const char *const read_pragmas_without_value[] = {
    "user_version", "application_id", "schema_version", "data_version",  "encoding",
    "page_count",   "page_size",      "freelist_count", "journal_mode", "query_only",
};

static bool has(const char *const *names, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++) {
        if (strcasecmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_read_pragma(const char *pragma, const char *value) {
    return has(read_pragmas, sizeof read_pragmas / sizeof *read_pragmas, pragma) ||
           (value == NULL && has(read_pragmas_without_value,
                                 sizeof read_pragmas_without_value / sizeof *read_pragmas_without_value, pragma));
}

static bool is_schema(const char *table) {
    return table != NULL && (strcasecmp(table, "sqlite_master") == 0 || strcasecmp(table, "sqlite_temp_master") == 0);
}

/* Returns a name for a refused action. `one` is the table, for actions that change one. */
static const char *name_of(int action, const char *one) {
    if (is_schema(one)) {
        return "a change of the schema";
    }
    switch (action) {
    case SQLITE_PRAGMA: return "this pragma";
    case SQLITE_FUNCTION: return "this function";
    case SQLITE_ATTACH: return "ATTACH";
    case SQLITE_DETACH: return "DETACH";
    case SQLITE_TRANSACTION:
    case SQLITE_SAVEPOINT: return "a transaction";
    case SQLITE_INSERT: return "INSERT";
    case SQLITE_UPDATE: return "UPDATE";
    case SQLITE_DELETE: return "DELETE";
    default: return "a change of the schema";
    }
}

int authorize(void *argument, int action, const char *one, const char *two, const char *database, const char *inner) {
    struct connection *connection = argument;
    (void)database;
    (void)inner;
    bool allowed;
    switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_RECURSIVE:
        allowed = true;
        break;
    case SQLITE_FUNCTION:
        allowed = two != NULL && strcasecmp(two, "load_extension") != 0 && strcasecmp(two, "fts3_tokenizer") != 0;
        break;
    case SQLITE_UPDATE:
        /*
         * SQLite asks for this when it creates the columns of a table-valued function such as json_each. A real update
         * of the schema is still refused, because it is not writable.
         */
        allowed = is_schema(one) && inner == NULL;
        break;
    case SQLITE_PRAGMA:
        allowed = one != NULL && is_read_pragma(one, two);
        break;
    default:
        allowed = false;
    }
    if (!allowed) {
        connection->refused = name_of(action, one);
    }
    return allowed ? SQLITE_OK : SQLITE_DENY;
}

#include "chanserv_plugin.h"

/* The `tenor` binary: everything is in admin/cli. */
#include "admin/cli/command.h"

int main(int argc, char **argv)
{
    return command_main(argc, argv);
}

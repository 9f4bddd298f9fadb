#include "broker/broker.h"
#include "broker/cli/cli.h"

int main(int argc, char** argv) {
  return spillway::cli::main(argc, argv, spillway::broker::run_broker);
}

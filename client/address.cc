#include "client/address.h"

namespace spillway::client {

Result<Address> parse_address(std::string_view text) {
  const Error malformed{"\"" + std::string(text) +
                        "\" is not an address: write tcp://host:port or unix:///path"};
  Address address;
  if (text.starts_with("unix://")) {
    address.path = text.substr(7);
    // The length of sockaddr_un::sun_path, with its 0.
    if (!address.path.starts_with('/') || address.path.size() > 107) return malformed;
    return address;
  }
  if (!text.starts_with("tcp://")) return malformed;
  text.remove_prefix(6);
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return malformed;
  std::string_view host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  address.host = host;
  address.port = text.substr(colon + 1);
  const bool digits = address.port.find_first_not_of("0123456789") == std::string::npos;
  if (host.empty() || address.port.empty() || address.port.size() > 5 || !digits ||
      std::stoi(address.port) > 65535) {
    return malformed;
  }
  return address;
}

}  // namespace spillway::client

#include "broker/config/reader.h"

#include <algorithm>

#include "broker/config/nearest.h"
#include "broker/config/units.h"

namespace spillway::config {
namespace {

bool is_unlimited(const toml::node& node) {
  return node.value<std::string_view>() == std::string_view("unlimited");
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : " | ") + word;
  return out;
}

std::string plain(double value) {
  std::string text = std::to_string(value);
  while (text.ends_with('0')) text.pop_back();
  if (text.ends_with('.')) text.pop_back();
  return text;
}

}  // namespace

std::string Section::key_path(std::string_view key) const {
  if (key.empty()) return path_;
  return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
}

bool Section::is_empty_array(std::string_view key) const {
  const auto* node = table_->get(key);
  return node != nullptr && node->is_array() && node->as_array()->empty();
}

const toml::node* Section::find(std::string_view key) {
  allow(key);
  return table_->get(key);
}

void Section::error(std::string_view key, std::string message) {
  const toml::node* node = table_->get(key);
  const auto at = node != nullptr ? node->source().begin : table_->source().begin;
  diagnostics_->push_back({file_, at.line, at.column, key_path(key), std::move(message)});
}

void Section::unknown_value(std::string_view key, const std::string& word,
                            const std::vector<std::string>& words) {
  std::string message = "unknown value \"" + word + "\"";
  if (const auto near = nearest(word, words); !near.empty()) {
    message += ", did you mean \"" + near + "\"?";
  }
  error(key, message + " (one of " + joined(words) + ")");
}

void Section::wrong_type(std::string_view key, std::string_view wanted) {
  error(key, "must be " + std::string(wanted));
}

template <class T, class Format>
bool Section::in_range(std::string_view key, T value, T min, T max, Format format) {
  if (value >= min && value <= max) return true;
  error(key, format(value) + " is out of range: " + format(min) + " to " + format(max));
  return false;
}

bool Section::text(std::string_view key, std::string& out) {
  const auto* node = find(key);
  if (node == nullptr) return false;
  if (!node->is_string()) {
    wrong_type(key, "a text in quotes");
    return false;
  }
  out = *node->value<std::string>();
  return true;
}

std::optional<Section::Bytes> Section::read_bytes(std::string_view key, const toml::node& node) {
  if (const auto* number = node.as_integer(); number != nullptr && number->get() >= 0) {
    return static_cast<Bytes>(number->get());
  }
  if (!node.is_string()) {
    wrong_type(key, "a size such as \"64MiB\"");
    return std::nullopt;
  }
  const auto parsed = parse_bytes(*node.value<std::string_view>());
  if (parsed) return *parsed;
  error(key, parsed.error().message);
  return std::nullopt;
}

bool Section::bytes(std::string_view key, Bytes& out, Bytes min, Bytes max) {
  const auto* node = find(key);
  if (node == nullptr) return false;
  const auto value = read_bytes(key, *node);
  if (!value || !in_range(key, *value, min, max, format_bytes)) return false;
  out = *value;
  return true;
}

bool Section::bytes(std::string_view key, std::optional<Bytes>& out, Bytes min) {
  const auto* node = find(key);
  if (node == nullptr) return false;
  if (is_unlimited(*node)) {
    out.reset();
    return true;
  }
  const auto value = read_bytes(key, *node);
  if (!value || !in_range(key, *value, min, kMaxBytes, format_bytes)) return false;
  out = *value;
  return true;
}

bool Section::rate(std::string_view key, std::optional<Bytes>& out, Bytes min) {
  const auto* node = find(key);
  if (node == nullptr) return false;
  if (is_unlimited(*node)) {
    out.reset();
    return true;
  }
  if (!node->is_string()) {
    wrong_type(key, "a rate such as \"8MiB/s\", or \"unlimited\"");
    return false;
  }
  const auto value = parse_rate(*node->value<std::string_view>());
  if (!value) {
    error(key, value.error().message);
    return false;
  }
  const auto format = [](Bytes rate) { return format_bytes(rate) + "/s"; };
  if (!in_range(key, *value, min, kMaxBytes, format)) return false;
  out = *value;
  return true;
}

bool Section::count(std::string_view key, std::optional<std::uint64_t>& out) {
  const auto* node = find(key);
  if (node == nullptr) return false;
  if (is_unlimited(*node)) {
    out.reset();
    return true;
  }
  const auto* number = node->as_integer();
  if (number == nullptr || number->get() < 0) {
    wrong_type(key, "a whole number, or \"unlimited\"");
    return false;
  }
  out = static_cast<std::uint64_t>(number->get());
  return true;
}

bool Section::count(std::string_view key, std::uint32_t& out, std::uint32_t min,
                    std::uint32_t max) {
  const auto* node = find(key);
  if (node == nullptr) return false;
  const auto* number = node->as_integer();
  if (number == nullptr) {
    wrong_type(key, "a whole number");
    return false;
  }
  const auto format = [](std::int64_t value) { return std::to_string(value); };
  if (!in_range<std::int64_t>(key, number->get(), min, max, format)) return false;
  out = static_cast<std::uint32_t>(number->get());
  return true;
}

std::optional<milliseconds> Section::read_duration(std::string_view key, const toml::node& node) {
  if (const auto* number = node.as_integer(); number != nullptr && number->get() == 0) {
    return milliseconds{0};
  }
  if (!node.is_string()) {
    wrong_type(key, "a duration with its unit, such as \"200ms\" or \"24h\"");
    return std::nullopt;
  }
  const auto parsed = parse_duration(*node.value<std::string_view>());
  if (parsed) return *parsed;
  error(key, parsed.error().message);
  return std::nullopt;
}

bool Section::duration(std::string_view key, milliseconds& out, milliseconds min,
                       milliseconds max) {
  const auto* node = find(key);
  if (node == nullptr) return false;
  const auto value = read_duration(key, *node);
  if (!value || !in_range(key, *value, min, max, format_duration)) return false;
  out = *value;
  return true;
}

bool Section::duration(std::string_view key, std::optional<milliseconds>& out, milliseconds min) {
  const auto* node = find(key);
  if (node == nullptr) return false;
  if (is_unlimited(*node)) {
    out.reset();
    return true;
  }
  const auto value = read_duration(key, *node);
  if (!value || !in_range(key, *value, min, kMaxDuration, format_duration)) return false;
  out = *value;
  return true;
}

bool Section::number(std::string_view key, double& out, double min, double max) {
  const auto* node = find(key);
  if (node == nullptr) return false;
  const auto value = node->is_number() ? node->value<double>() : std::nullopt;
  if (!value) {
    wrong_type(key, "a number");
    return false;
  }
  if (!in_range(key, *value, min, max, plain)) return false;
  out = *value;
  return true;
}

std::optional<Section> Section::section(std::string_view key) {
  const auto* node = find(key);
  if (node == nullptr) return std::nullopt;
  if (const auto* table = node->as_table()) {
    return Section(*table, key_path(key), file_, *diagnostics_);
  }
  wrong_type(key, path_.empty() ? "a table: [" + std::string(key) + "]"
                                : "a table: " + std::string(key) + " = { ... }");
  return std::nullopt;
}

std::vector<Section> Section::sections(std::string_view key) {
  std::vector<Section> out;
  const auto* node = find(key);
  if (node == nullptr) return out;
  const auto* array = node->as_array();
  if (array == nullptr) {
    // "[stream]" for "[[stream]]" is the slip everybody makes once.
    auto header = path_;  // "stream[0]" is written [[stream.sink]] in a file
    for (auto at = header.find('['); at != std::string::npos; at = header.find('[')) {
      header.erase(at, header.find(']') - at + 1);
    }
    header += (header.empty() ? "" : ".") + std::string(key);
    wrong_type(key, "an array of tables: write [[" + header + "]] with two brackets");
    return out;
  }
  std::size_t index = 0;
  for (const auto& element : *array) {
    const auto name = std::string(key) + "[" + std::to_string(index++) + "]";
    if (const auto* table = element.as_table()) {
      out.emplace_back(*table, key_path(name), file_, *diagnostics_);
    } else {
      error(key, "each entry must be a table");
    }
  }
  return out;
}

void Section::finish(const std::vector<std::pair<std::string, std::string>>& elsewhere) {
  for (const auto& [key, node] : *table_) {
    if (std::ranges::find(known_, key.str()) != known_.end()) continue;
    const auto at = key.source().begin;
    std::string message;
    const auto other = std::ranges::find(
        elsewhere, key.str(), [](const auto& entry) { return std::string_view(entry.first); });
    if (other != elsewhere.end()) {
      message = other->second;
    } else if (const auto near = nearest(key.str(), known_); !near.empty()) {
      message = "unknown key, did you mean \"" + near + "\"?";
    } else {
      auto words = known_;
      std::ranges::sort(words);
      words.erase(std::unique(words.begin(), words.end()), words.end());
      message = "unknown key (known here: " + joined(words) + ")";
    }
    diagnostics_->push_back({file_, at.line, at.column, key_path(key.str()), std::move(message)});
  }
}

}  // namespace spillway::config

// Section: reads one TOML table key by key, remembers which keys exist, and reports everything that
// is wrong with file, line, column and key instead of stopping at the first.
#pragma once

#include <toml++/toml.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "broker/config/config.h"

namespace spillway::config {

class Section {
 public:
  using Bytes = std::uint64_t;
  static constexpr Bytes kMaxBytes = std::uint64_t{1} << 60;
  static constexpr milliseconds kMaxDuration = std::chrono::hours{24 * 3650};

  // `path` is how errors name the table: "stream[0]"; the root's is empty.
  Section(const toml::table& table, std::string path, std::string file,
          std::vector<Diagnostic>& diagnostics)
      : table_(&table),
        path_(std::move(path)),
        file_(std::move(file)),
        diagnostics_(&diagnostics) {}

  // Each leaves `out` as it is when the key is absent or wrong, and says whether it was set.
  bool text(std::string_view key, std::string& out);
  bool bytes(std::string_view key, Bytes& out, Bytes min, Bytes max);
  bool bytes(std::string_view key, std::optional<Bytes>& out, Bytes min);  // or "unlimited"
  bool rate(std::string_view key, std::optional<Bytes>& out, Bytes min);   // or "unlimited"
  bool count(std::string_view key, std::optional<std::uint64_t>& out);     // or "unlimited"
  bool count(std::string_view key, std::uint32_t& out, std::uint32_t min, std::uint32_t max);
  bool duration(std::string_view key, milliseconds& out, milliseconds min, milliseconds max);
  bool duration(std::string_view key, std::optional<milliseconds>& out, milliseconds min);
  bool number(std::string_view key, double& out, double min, double max);

  template <class E>
  using Choices = std::vector<std::pair<std::string, E>>;
  template <class E>
  bool choice(std::string_view key, E& out, const Choices<E>& choices) {
    std::string word;
    if (!text(key, word)) return false;
    std::vector<std::string> words;
    for (const auto& [name, value] : choices) {
      if (name == word) {
        out = value;
        return true;
      }
      words.push_back(name);
    }
    unknown_value(key, word, words);
    return false;
  }

  bool has(std::string_view key) const { return table_->contains(key); }
  bool is_empty_array(std::string_view key) const;
  // Makes `key` known without reading it.
  void allow(std::string_view key) { known_.emplace_back(key); }
  std::optional<Section> section(std::string_view key);
  std::vector<Section> sections(std::string_view key);  // an array of tables

  // At the key's value if it is there, else at the table.
  void error(std::string_view key, std::string message);
  void unknown_value(std::string_view key, const std::string& word,
                     const std::vector<std::string>& words);
  // Reports every key that nobody asked for. `elsewhere`: keys that would be right in another table
  // of this kind, with what to say of them.
  void finish(const std::vector<std::pair<std::string, std::string>>& elsewhere = {});

  std::string key_path(std::string_view key) const;

 private:
  const toml::node* find(std::string_view key);
  void wrong_type(std::string_view key, std::string_view wanted);
  template <class T, class Format>
  bool in_range(std::string_view key, T value, T min, T max, Format format);
  std::optional<Bytes> read_bytes(std::string_view key, const toml::node& node);
  std::optional<milliseconds> read_duration(std::string_view key, const toml::node& node);

  const toml::table* table_;
  std::string path_;
  std::string file_;
  std::vector<Diagnostic>* diagnostics_;
  std::vector<std::string> known_;
};

}  // namespace spillway::config

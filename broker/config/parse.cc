#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <system_error>

#include "broker/config/config.h"
#include "broker/config/parse_sink.h"
#include "broker/config/reader.h"
#include "broker/config/units.h"
#include "journal/journal.h"

namespace spillway::config {
namespace {

using namespace std::chrono_literals;

// Room for a few blocks of 64 KiB; below it every batch would be a spill.
constexpr std::uint64_t kMinWindowBytes = 256 * kKiB;
constexpr std::uint64_t kMaxWindowBytes = 64 * kGiB;
constexpr std::uint64_t kMinRecordBytes = kKiB;
constexpr std::uint32_t kMaxSinks = 64;  // of a stream

// Absolute, whatever `file` is relative to: what is made of it is stored, and compared at a start
// from another folder.
std::filesystem::path folder_of(const std::filesystem::path& file) {
  std::error_code error;
  const auto absolute = std::filesystem::absolute(file, error);
  return (error ? file : absolute).lexically_normal().parent_path();
}

class Parser {
 public:
  Parser(const toml::table& root, const std::filesystem::path& file,
         std::vector<Diagnostic>& diagnostics)
      : root_(root, "", file.string(), diagnostics), folder_(folder_of(file)) {
    config_.file = file;
  }

  Config run() {
    read_path(root_, "data_dir", folder_, config_.data_dir);
    if (config_.data_dir.empty()) root_.error("data_dir", "required");
    root_.duration("stop_timeout", config_.stop_timeout, 100ms, 1h);
    read_admin();
    read_journal();
    read_log();
    read_ingress();
    read_streams();
    root_.finish();
    return std::move(config_);
  }

 private:
  void read_mode(Section& section, const Address& listen, std::uint32_t& out) {
    std::string text;
    if (!section.text("mode", text)) return;
    if (listen.kind != Address::Kind::unix_socket) {
      section.error("mode", "only a unix:// listener has permissions");
      return;
    }
    const bool octal = !text.empty() && text.size() <= 4 &&
                       text.find_first_not_of("01234567") == std::string::npos;
    const auto mode = octal ? std::stoul(text, nullptr, 8) : 01000UL;
    if (mode > 0777) {
      section.error("mode", "\"" + text + "\" is no file mode: \"0000\" to \"0777\" in quotes");
      return;
    }
    out = static_cast<std::uint32_t>(mode);
  }

  // Every listener, once: the second of two with one address would fail to bind at start.
  void claim(Section& section, const Address& listen) {
    if (listen.kind == Address::Kind::tcp && listen.port == 0) return;
    const auto [other, fresh] = listeners_.emplace(to_string(listen), section.key_path("listen"));
    if (!fresh) section.error("listen", "is the address of " + other->second + " too");
  }

  void read_admin() {
    auto section = root_.section("admin");
    if (!section) {
      listeners_.emplace(to_string(config_.admin.listen), "admin.listen");
      return;
    }
    read_address(*section, "listen", folder_, false, true, config_.admin.listen);
    read_mode(*section, config_.admin.listen, config_.admin.mode);
    claim(*section, config_.admin.listen);
    section->finish();
  }

  void read_journal() {
    auto section = root_.section("journal");
    if (!section) return;
    auto& journal = config_.journal;
    section->bytes("max_disk_bytes", journal.max_disk_bytes, journal::kMinDiskBytes,
                   Section::kMaxBytes);
    section->bytes("min_free_disk", journal.min_free_disk, 0, Section::kMaxBytes);
    group_reserve_given_ =
        section->bytes("group_reserve", journal.group_reserve, 0, Section::kMaxBytes);
    section->choice<Compression>("compression", journal.compression,
                                 {{"none", Compression::none}, {"lz4", Compression::lz4}});
    section->duration("journal_timeout", journal.journal_timeout, 100ms, 24h);
    section->finish();
    // A small bound and nothing said of the reserve: all of the bound must not go to the reserve.
    if (!group_reserve_given_) {
      journal.group_reserve = std::min(journal.group_reserve, journal.max_disk_bytes / 8);
    }
  }

  void read_log() {
    auto section = root_.section("log");
    if (!section) return;
    section->choice<LogLevel>("level", config_.log.level,
                              {{"debug", LogLevel::debug},
                               {"info", LogLevel::info},
                               {"warn", LogLevel::warn},
                               {"error", LogLevel::error}});
    section->choice<LogFormat>("format", config_.log.format,
                               {{"text", LogFormat::text}, {"json", LogFormat::json}});
    section->finish();
  }

  void read_ingress() {
    auto sections = root_.sections("ingress");
    for (auto& section : sections) {
      Ingress ingress;
      ingress.listen = default_ingress();
      const bool good = read_address(section, "listen", folder_, false, false, ingress.listen) ||
                        !section.has("listen");
      if (section.has("tls")) {
        section.allow("tls");
        section.error("tls", "not built in this version");
      } else if (good && !is_loopback(ingress.listen)) {
        section.error("listen", to_string(ingress.listen) +
                                    " is not loopback: that needs TLS and tokens, and TLS is not "
                                    "built in this version; listen on 127.0.0.1, [::1] or unix://");
      }
      read_mode(section, ingress.listen, ingress.mode);
      if (good) claim(section, ingress.listen);
      section.finish();
      config_.ingress.push_back(ingress);
    }
    if (!root_.has("ingress")) {
      config_.ingress.push_back({default_ingress()});
      if (!listeners_.emplace(to_string(default_ingress()), "ingress").second) {
        root_.error("ingress", "none is given, and its default " + to_string(default_ingress()) +
                                   " is the address of admin.listen");
      }
    }
  }

  static Address default_ingress() { return {Address::Kind::tcp, "127.0.0.1", 7070, {}}; }

  void read_streams() {
    auto sections = root_.sections("stream");
    if (sections.empty() && (!root_.has("stream") || root_.is_empty_array("stream"))) {
      root_.error("stream", "at least one [[stream]] is needed");
    }
    std::set<std::string> names;
    for (auto& section : sections) {
      Stream stream;
      read_stream(section, stream);
      if (!stream.name.empty() && !names.insert(stream.name).second) {
        section.error("name", "another stream is called \"" + stream.name + "\" too");
      }
      config_.streams.push_back(std::move(stream));
    }
    const auto reserved = config_.journal.group_reserve * sections.size();
    if (group_reserve_given_ && !sections.empty() &&
        reserved / sections.size() == config_.journal.group_reserve &&
        reserved > config_.journal.max_disk_bytes / 2) {
      root_.section("journal")->error(
          "group_reserve", format_bytes(config_.journal.group_reserve) + " for each of " +
                               std::to_string(sections.size()) +
                               " streams is out of range: together at most half of max_disk_bytes");
    } else if (!group_reserve_given_ && !sections.empty()) {
      // The same half, shared.
      config_.journal.group_reserve = std::min(
          config_.journal.group_reserve, config_.journal.max_disk_bytes / 2 / sections.size());
    }
  }

  void read_stream(Section& section, Stream& stream) {
    read_name(section, stream.name);
    section.choice<JournalMode>(
        "journal", stream.journal,
        {{"on_failure", JournalMode::on_failure}, {"always", JournalMode::always}});
    section.bytes("window_bytes", stream.window_bytes, kMinWindowBytes, kMaxWindowBytes);
    section.duration("spill_after", stream.spill_after, 1ms, 1h);
    section.duration("checkpoint_interval", stream.checkpoint_interval, 0ms, 1h);
    section.choice<OnGap>("on_gap", stream.on_gap,
                          {{"halt", OnGap::halt}, {"record", OnGap::record}});
    // In the window while a sink takes it, so never larger than it.
    stream.max_record_bytes = std::min(stream.max_record_bytes, stream.window_bytes);
    section.bytes("max_record_bytes", stream.max_record_bytes, kMinRecordBytes,
                  stream.window_bytes);
    read_path(section, "token_file", folder_, stream.token_file);

    std::set<std::string> names;
    auto sinks = section.sections("sink");
    for (auto& sink_section : sinks) {
      Sink sink;
      read_sink(sink_section, folder_, stream.name, sink);
      if (!sink.name.empty() && !names.insert(sink.name).second) {
        sink_section.error("name",
                           "another sink of this stream is called \"" + sink.name + "\" too");
      }
      check_destination(sink_section, sink, stream);
      stream.sinks.push_back(std::move(sink));
    }
    if (sinks.empty() && (!section.has("sink") || section.is_empty_array("sink"))) {
      section.error("sink", "at least one [[stream.sink]] is needed");
    } else if (sinks.size() > kMaxSinks) {
      section.error("sink", std::to_string(sinks.size()) + " sinks are out of range: 1 to " +
                                std::to_string(kMaxSinks));
    }
    read_acks(section, stream);
    section.finish();
  }

  void read_acks(Section& section, Stream& stream) {
    section.choice<Acks>("acks", stream.acks,
                         {{"none", Acks::none}, {"quorum", Acks::quorum}, {"all", Acks::all}});
    const auto sinks = std::max<std::size_t>(1, stream.sinks.size());
    section.count("quorum", stream.quorum, 1, static_cast<std::uint32_t>(sinks));
    if (stream.acks == Acks::quorum && !section.has("quorum")) {
      section.error("acks", "acks = \"quorum\" needs quorum = n, 1 to " + std::to_string(sinks));
    } else if (stream.acks != Acks::quorum && section.has("quorum")) {
      section.error("quorum", "only means something with acks = \"quorum\"");
    }
  }

  // Destinations that two sinks would fight over, or that would feed on themselves.
  void check_destination(Section& section, const Sink& sink, const Stream& stream) {
    const auto* file = std::get_if<FileSink>(&sink.destination);
    const auto* relay = std::get_if<SpillwaySink>(&sink.destination);
    if (file != nullptr && !file->path.empty()) {
      claim_destination(section, "path", sink);
      const auto inside = file->path.lexically_relative(config_.data_dir);
      if (!config_.data_dir.empty() && !inside.empty() && *inside.begin() != "..") {
        section.error("path",
                      "is inside data_dir, which holds the journal and is bounded; "
                      "choose another folder");
      }
    } else if (relay != nullptr && relay->connect != Address{}) {
      claim_destination(section, "connect", sink);
      const bool here = std::ranges::any_of(config_.ingress, [relay](const Ingress& ingress) {
        return is_same_place(ingress.listen, relay->connect);
      });
      const bool admin = is_same_place(config_.admin.listen, relay->connect);
      if (relay->stream == stream.name && (here || admin)) {
        section.error("connect", "leads back to this broker and this stream");
      }
    }
  }

  void claim_destination(Section& section, std::string_view key, const Sink& sink) {
    const auto [other, fresh] = destinations_.emplace(sink_identity(sink), section.key_path(key));
    if (!fresh) section.error(key, "is the destination of " + other->second + " too");
  }

  Section root_;
  std::filesystem::path folder_;
  Config config_;
  bool group_reserve_given_ = false;
  std::map<std::string, std::string> listeners_;     // address -> key
  std::map<std::string, std::string> destinations_;  // identity -> key
};

Error as_error(std::vector<Diagnostic>& found, std::vector<Diagnostic>* diagnostics) {
  std::ranges::stable_sort(found, {}, [](const Diagnostic& diagnostic) {
    return std::pair(diagnostic.line, diagnostic.column);
  });
  Error error;
  for (const auto& diagnostic : found) {
    error.message += (error.message.empty() ? "" : "\n") + to_string(diagnostic);
  }
  if (diagnostics != nullptr) *diagnostics = std::move(found);
  return error;
}

}  // namespace

Result<Config> parse(std::string_view text, const std::filesystem::path& filename,
                     std::vector<Diagnostic>* diagnostics) {
  std::vector<Diagnostic> found;
  toml::table root;
  try {
    root = toml::parse(text, filename.string());
  } catch (const toml::parse_error& error) {
    const auto at = error.source().begin;
    found.push_back({filename.string(), at.line, at.column, "", std::string(error.description())});
    return as_error(found, diagnostics);
  }
  auto config = Parser(root, filename, found).run();
  if (!found.empty()) return as_error(found, diagnostics);
  return config;
}

Result<Config> load(const std::filesystem::path& filename, std::vector<Diagnostic>* diagnostics) {
  std::ifstream in(filename, std::ios::binary);
  std::ostringstream text;
  const bool opened = in.is_open();
  std::string why = opened ? "" : std::strerror(errno);
  std::error_code ignored;
  if (opened && std::filesystem::is_directory(filename, ignored)) {
    why = "it is a directory";
  } else if (opened) {
    text << in.rdbuf();
    if (in.bad()) why = "reading it failed";
  }
  if (!why.empty()) {
    std::vector<Diagnostic> found{{filename.string(), 0, 0, "", "cannot be read: " + why}};
    return as_error(found, diagnostics);
  }
  return parse(std::move(text).str(), filename, diagnostics);
}

}  // namespace spillway::config

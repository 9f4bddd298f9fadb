#include "tests/power/disk_model.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>

#include "base/invariant.h"

namespace spillway::power {

namespace {

constexpr std::size_t kPage = 4096;

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::filesystem::path& path, const std::string& contents) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  INVARIANT(fd >= 0);
  INVARIANT(::write(fd, contents.data(), contents.size()) == static_cast<ssize_t>(contents.size()));
  ::close(fd);
}

}  // namespace

TraceReader::TraceReader(const std::filesystem::path& path) : bytes_(read_file(path)) {}

std::optional<Entry> TraceReader::next() {
  Entry entry;
  if (bytes_.size() - at_ < sizeof entry.header) return std::nullopt;
  std::memcpy(&entry.header, bytes_.data() + at_, sizeof entry.header);
  const std::size_t path_at = at_ + sizeof entry.header;
  const std::size_t data_at = path_at + entry.header.path_bytes;
  if (bytes_.size() < data_at + entry.header.data_bytes) return std::nullopt;
  entry.path = bytes_.substr(path_at, entry.header.path_bytes);
  entry.data = bytes_.substr(data_at, entry.header.data_bytes);
  at_ = data_at + entry.header.data_bytes;
  return entry;
}

DiskModel::DiskModel(const std::filesystem::path& base) : root_(read(base)) {}

DiskModel::NodePtr DiskModel::read(const std::filesystem::path& path) {
  auto node = std::make_shared<Node>();
  node->is_folder = std::filesystem::is_directory(path);
  if (!node->is_folder) {
    if (std::filesystem::is_regular_file(path)) node->synced = read_file(path);
    return node;
  }
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    node->names[entry.path().filename()] = read(entry.path());
  }
  node->synced_names = node->names;
  return node;
}

void DiskModel::play(const Entry& entry) {
  const EntryHeader& header = entry.header;
  switch (header.call) {
    case Call::create: {
      auto node = std::make_shared<Node>();
      name(entry.path, node);
      open_[header.id] = std::move(node);
      break;
    }
    case Call::open: open_[header.id] = find(entry.path); break;
    case Call::write:
    case Call::truncate:
    case Call::allocate: open_.at(header.id)->since.push_back({header, entry.data, nullptr}); break;
    case Call::sync: {
      Node& file = *open_.at(header.id);
      for (const Change& change : file.since) apply(change, file.synced);
      file.since.clear();
      break;
    }
    case Call::sync_dir: {
      Node& folder = *find(entry.path);
      folder.synced_names = folder.names;
      folder.since.clear();
      break;
    }
    case Call::make_dir: {
      auto node = std::make_shared<Node>();
      node->is_folder = true;
      name(entry.path, std::move(node));
      break;
    }
    case Call::remove: name(entry.path, nullptr); break;
    case Call::rename: {
      NodePtr node = find(entry.path);
      name(entry.path, nullptr);
      name(entry.data, std::move(node));
      break;
    }
    case Call::link: name(entry.data, find(entry.path)); break;
    case Call::note: break;
  }
}

void DiskModel::apply(const Change& change, std::string& contents) {
  const std::size_t at = change.header.offset;
  switch (change.header.call) {
    case Call::write:
      if (contents.size() < at + change.data.size()) contents.resize(at + change.data.size());
      contents.replace(at, change.data.size(), change.data);
      break;
    case Call::truncate: contents.resize(at); break;
    case Call::allocate:
      contents.resize(std::max<std::size_t>(contents.size(), at + change.header.length));
      break;
    default: INVARIANT(false);
  }
}

std::string DiskModel::contents_after_cut(const Node& file, Remains remains,
                                          std::mt19937_64& random) {
  std::string contents = file.synced;
  if (file.since.empty() || remains == Remains::nothing) return contents;
  const auto apply_first = [&](std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) apply(file.since[i], contents);
  };
  if (remains == Remains::all) {
    apply_first(file.since.size());
    return contents;
  }
  switch (random() % 4) {
    case 0: break;
    case 1: apply_first(file.since.size()); break;
    case 2: {  // the first writes, and a part of the next
      const std::size_t count = random() % file.since.size();
      apply_first(count);
      Change torn = file.since[count];
      torn.data.resize(torn.data.empty() ? 0 : random() % torn.data.size());
      if (torn.header.call == Call::write) apply(torn, contents);
      break;
    }
    default: {  // the new size, and any of the pages
      const std::string before = contents;
      apply_first(file.since.size());
      const std::uint64_t per_mille = random() % 1000;
      for (std::size_t at = 0; at < contents.size(); at += kPage) {
        if (random() % 1000 >= per_mille) continue;
        const std::size_t bytes = std::min(kPage, contents.size() - at);
        std::string page = at < before.size() ? before.substr(at, bytes) : std::string();
        page.resize(bytes);
        contents.replace(at, bytes, page);
      }
      break;
    }
  }
  return contents;
}

DiskModel::Names DiskModel::names_after_cut(const Node& folder, Remains remains,
                                            std::mt19937_64& random) {
  if (remains == Remains::all) return folder.names;
  Names names = folder.synced_names;
  if (remains == Remains::nothing || folder.since.empty()) return names;
  const std::size_t count = random() % (folder.since.size() + 1);
  for (std::size_t i = 0; i < count; ++i) {
    const Change& change = folder.since[i];
    if (change.node) {
      names[change.data] = change.node;
    } else {
      names.erase(change.data);
    }
  }
  return names;
}

void DiskModel::cut(const std::filesystem::path& target, Remains remains,
                    std::uint64_t seed) const {
  std::mt19937_64 random(seed);
  write(*root_, target, remains, random);
}

void DiskModel::write(const Node& folder, const std::filesystem::path& target, Remains remains,
                      std::mt19937_64& random) {
  std::filesystem::create_directory(target);
  for (const auto& [name, node] : names_after_cut(folder, remains, random)) {
    if (node->is_folder) {
      write(*node, target / name, remains, random);
    } else {
      write_file(target / name, contents_after_cut(*node, remains, random));
    }
  }
}

DiskModel::NodePtr DiskModel::find(std::string_view path) const {
  if (path.empty()) return root_;
  const auto [folder, last] = place(path);
  const auto it = folder->names.find(last);
  INVARIANT(it != folder->names.end());
  return it->second;
}

std::pair<DiskModel::NodePtr, std::string> DiskModel::place(std::string_view path) const {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return {root_, std::string(path)};
  return {find(path.substr(0, slash)), std::string(path.substr(slash + 1))};
}

void DiskModel::name(std::string_view path, NodePtr node) {
  const auto [folder, last] = place(path);
  if (node) {
    folder->names[last] = node;
  } else {
    folder->names.erase(last);
  }
  Change change;
  change.data = last;
  change.node = std::move(node);
  folder->since.push_back(std::move(change));
}

}  // namespace spillway::power

#include "broker/cli/record_writer.h"

#include <boost/json.hpp>
#include <utility>

#include "broker/cli/record_text.h"

namespace spillway::cli {

RecordWriter::Framing RecordWriter::framing_of(const std::string& framing, bool json) {
  if (json) return Framing::json;
  return framing == "lines" ? Framing::lines : Framing::length_prefixed;
}

std::optional<Error> RecordWriter::write(const wire::RecordView& record) {
  if (framing_ == Framing::json) {
    out_ << boost::json::serialize(record_json(record)) << "\n";
    ++records_;
    bytes_ += record.payload.size();
    if (!first_) first_ = record.position;
    last_ = record.position;
    return std::nullopt;
  }
  const std::string_view payload = as_text(record.payload);
  if (!record.part) {
    finish();
    return put(payload, record.position, record.position);
  }
  if (*record.part == 0) {
    finish();
    begun_ = record.position;
  } else if (!begun_) {
    cut_off_ = true;
  }
  if (begun_) parts_ += payload;
  if (!record.last_part) return std::nullopt;
  if (!begun_) {
    finish();
    return std::nullopt;
  }
  const Position first = *std::exchange(begun_, std::nullopt);
  auto error = put(parts_, first, record.position);
  parts_.clear();
  return error;
}

void RecordWriter::finish() {
  if (begun_ || cut_off_) ++incomplete_;
  begun_.reset();
  cut_off_ = false;
  parts_.clear();
}

std::optional<Error> RecordWriter::put(std::string_view payload, Position first, Position last) {
  if (framing_ == Framing::lines) {
    // Read back, it would be two records.
    if (payload.find('\n') != std::string_view::npos) {
      return Error{"the record at " + to_string(first) +
                   " contains a newline, so it is no line: say --framing length_prefixed"};
    }
    out_ << payload << '\n';
  } else {
    const auto size = static_cast<std::uint32_t>(payload.size());
    for (int shift = 0; shift < 32; shift += 8) {
      out_.put(static_cast<char>((size >> shift) & 0xff));
    }
    out_ << payload;
  }
  ++records_;
  bytes_ += payload.size();
  if (!first_) first_ = first;
  last_ = last;
  return std::nullopt;
}

}  // namespace spillway::cli

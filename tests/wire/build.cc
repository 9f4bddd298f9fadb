#include "tests/wire/build.h"

namespace spillway::wire {

std::string records_of(const std::vector<RecordFields>& fields, Position first) {
  std::string out;
  for (const RecordFields& record : fields) {
    append_record(out, record, first);
    ++first.sequence;
  }
  return out;
}

std::string plain_records(std::uint64_t count, Position first) {
  std::string out;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string payload = std::to_string(i);
    append_record(out, record_of(payload), {first.epoch, first.sequence + i});
  }
  return out;
}

std::string batch_bytes(Position first, std::uint64_t count, const std::string& records,
                        std::optional<LossReason> skip, std::optional<Position> previous) {
  std::string frame = batch_frame_header(first, count, records.size(), skip, previous) + records;
  return text_of(batch_of(bytes_of(frame).subspan(4)).value());
}

RecordFields record_of(std::string_view payload, Group group) {
  RecordFields fields;
  fields.payload = bytes_of(payload);
  fields.group = group;
  return fields;
}

RecordFields part_of(std::string_view payload, std::uint64_t part, bool last, Group group) {
  RecordFields fields = record_of(payload, group);
  fields.part = part;
  fields.last_part = last;
  return fields;
}

void scan_into(Scanned& scanned, std::string records, Position first, std::uint64_t count) {
  scanned.records = std::move(records);
  scanned.view.epoch = first.epoch;
  scanned.view.first_sequence = first.sequence;
  scanned.view.count = count;
  scanned.view.records = bytes_of(scanned.records);
  PartState parts;
  scanned.refusal = scan_records(scanned.view, 1 << 20, parts, scanned.shapes, scanned.mark);
}

}  // namespace spillway::wire

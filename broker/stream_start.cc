// How a stream learns what its journal holds for each sink, and how it meets a journal that was
// reopened.
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <utility>

#include "broker/log/log.h"
#include "broker/state_codec.h"
#include "broker/stream.h"

namespace spillway::broker {

namespace asio = boost::asio;

namespace {
constexpr std::chrono::milliseconds kReadRetry{200};
}  // namespace

// The journal is read once for each sink, at the record after its cursor.
struct Stream::Starting {
  recovery::event::Started event;
  std::function<void()> done;
  std::size_t next = 0;  // sink
  asio::steady_timer retry;

  explicit Starting(asio::io_context& io) : retry(io) {}
};

void Stream::start(journal::Recovered recovered, recovery::DurableState state,
                   std::vector<recovery::HaltCause> latched, std::function<void()> done) {
  journal_generation_ = recovered.generation;
  journal_writable_ = recovered.writable;
  const auto starting = std::make_shared<Starting>(io_);
  starting->done = std::move(done);
  starting->event.journal_end = recovered.end;
  starting->event.end_clean = recovered.end_clean;
  starting->event.latched = std::move(latched);
  starting->event.watermark = recovered.watermark;
  starting->event.high_water = recovered.high_water;
  starting->event.damage = recovered.damage.value_or("");
  starting->event.backlogs.resize(state.sinks.size());
  if (recovered.damage) {
    probe_.corruption_found(metrics::Corruption::start);
    log::error("journal does not add up", {{"stream", name_}, {"damage", *recovered.damage}});
  }
  if (recovered.high_water > recovered.end) {
    probe_.journal_lost(recovered.high_water - recovered.end);
  }
  const bool reads = state.open && recovered.end > recovered.watermark;
  if (reads) probe_.journal_recovered(recovered.end - recovered.watermark);
  // Where the last block is damaged, what comes counts on from the one before: it never falls.
  if (reads) starting->event.end_running_bytes = recovered.running_bytes;
  starting->event.state = std::move(state);
  if (!reads) return begin(std::move(starting->event), std::move(starting->done));
  read_backlog(starting);
}

void Stream::read_backlog(std::shared_ptr<Starting> starting) {
  const recovery::event::Started& event = starting->event;
  const Offset end = event.journal_end;
  for (; starting->next < event.state->sinks.size(); ++starting->next) {
    const Offset through =
        goes_on_after(*event.state, event.state->sinks[starting->next], event.watermark, end);
    if (through >= end) {
      starting->event.backlogs[starting->next].running_bytes = event.end_running_bytes;
      continue;
    }
    const Offset offset = through + 1;
    journal_.read(name_, offset, offset, 1,
                  [self = shared_from_this(), starting, offset](journal::ReadResult result) {
                    asio::post(self->io_, [self, starting, offset, result = std::move(result)] {
                      self->take_backlog(starting, offset, result);
                    });
                  });
    return;
  }
  begin(std::move(starting->event), std::move(starting->done));
}

void Stream::take_backlog(const std::shared_ptr<Starting>& starting, Offset offset,
                          const journal::ReadResult& result) {
  // A journal that is only read, for it is damaged, is not reopened: nothing is worth waiting for.
  if (!result.ok && result.retryable && journal_writable_) {
    starting->retry.expires_after(kReadRetry);
    starting->retry.async_wait([self = shared_from_this(), starting](boost::system::error_code) {
      self->read_backlog(starting);
    });
    return;
  }
  recovery::event::Started& event = starting->event;
  auto& backlog = event.backlogs[starting->next];
  if (!result.blocks.empty()) {
    const Block& block = *result.blocks.front();
    recovery::BlockInfo info;
    info.first = block.first;
    info.last = block.last();
    info.bytes = block.bytes();
    info.running_bytes = block.running_bytes;
    backlog.running_bytes = info.running_at(offset - 1);
    backlog.oldest_received = block.received_ms;
  } else {
    // Damaged there: what cannot be read does not count as backlog.
    backlog.running_bytes = event.end_running_bytes;
  }
  ++starting->next;
  read_backlog(starting);
}

void Stream::journal_reopened(const journal::Recovered& recovered) {
  journal_generation_ = recovered.generation;
  recovery::event::JournalReopened event;
  event.end = recovered.end;
  event.damage = recovered.damage.value_or("");
  if (recovered.state) {
    auto state = decode_state(*recovered.state);
    if (state) {
      event.state = std::move(*state);
    } else if (event.damage.empty()) {
      event.damage = state.error().message;
    }
  }
  if (!event.damage.empty()) {
    probe_.corruption_found(metrics::Corruption::reopen);
    log::error("journal does not add up", {{"stream", name_}, {"damage", event.damage}});
  }
  handle(std::move(event));
}

}  // namespace spillway::broker

#include "broker/sinks/file_sink.h"

#include <boost/asio/post.hpp>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "base/invariant.h"
#include "broker/sinks/file_writer.h"

namespace spillway::broker {

// What the worker has to say: one of these, about `attempt` unless it is the last word.
struct FileSink::Report {
  Attempt attempt{};
  std::optional<FileWriter::Opened> opened;
  std::optional<FileWriter::Committed> committed;
  bool stopped = false;
};

struct FileSink::Shared {
  Shared(boost::asio::io_context& context, const config::FileSink& options, Disk& disk,
         FileSink* sink)
      : writer(options, disk), owner(sink), io(&context) {}

  FileWriter writer;  // the worker's only
  FileSink* owner;    // the reactor's only; nullptr once the sink is gone

  std::mutex mutex;
  std::condition_variable changed;
  // Under the mutex:
  boost::asio::io_context* io;     // nullptr once the sink is gone
  std::optional<Attempt> attempt;  // the current one
  bool open_wanted = false;
  bool opened = false;  // blocks of `attempt` may be written
  bool stopping = false;
  std::vector<BlockPtr> blocks;
};

FileSink::FileSink(boost::asio::io_context& io, config::FileSink options, SinkEvents& events,
                   Disk& disk)
    : io_(io),
      events_(events),
      shared_(std::make_shared<Shared>(io, options, disk, this)),
      open_timer_(io) {}

FileSink::~FileSink() {
  shared_->owner = nullptr;
  {
    const std::scoped_lock lock(shared_->mutex);
    shared_->io = nullptr;
    shared_->attempt.reset();
    shared_->stopping = true;
    shared_->blocks.clear();
  }
  shared_->changed.notify_one();
  if (worker_.joinable()) {
    worker_.detach();
  }
}

void FileSink::connect(ConnectHint hint) {
  end_attempt();
  attempt_ = hint.attempt;
  active_ = true;
  connected_ = false;
  {
    const std::scoped_lock lock(shared_->mutex);
    INVARIANT(!shared_->stopping);
    shared_->attempt = attempt_;
    shared_->open_wanted = true;
  }
  if (!worker_.joinable()) {
    worker_ = std::thread([shared = shared_] { work(shared); });
  }
  shared_->changed.notify_one();
  open_timer_.expires_after(kFileOpenTimeout);
  open_timer_.async_wait([shared = shared_, attempt = attempt_](boost::system::error_code error) {
    FileSink* const self = shared->owner;
    if (!error && self != nullptr && self->active_ && !self->connected_ &&
        self->attempt_ == attempt) {
      self->end_attempt();
      self->events_.lost(
          attempt, LossCause::connect_failed,
          "the disk did not answer within " + std::to_string(kFileOpenTimeout.count()) + " s");
    }
  });
}

void FileSink::send(Attempt attempt, const std::vector<BlockPtr>& blocks) {
  if (!active_ || attempt != attempt_) {
    return;
  }
  {
    const std::scoped_lock lock(shared_->mutex);
    shared_->blocks.insert(shared_->blocks.end(), blocks.begin(), blocks.end());
  }
  shared_->changed.notify_one();
}

void FileSink::close(Attempt attempt) {
  if (attempt == attempt_) {
    end_attempt();
  }
}

void FileSink::end_attempt() {
  if (!active_) {
    return;
  }
  active_ = false;
  open_timer_.cancel();
  {
    const std::scoped_lock lock(shared_->mutex);
    shared_->attempt.reset();
    shared_->open_wanted = false;
    shared_->opened = false;
    shared_->blocks.clear();
  }
  shared_->changed.notify_one();
}

void FileSink::stop(std::function<void()> done) {
  end_attempt();
  if (!worker_.joinable()) {
    boost::asio::post(io_, std::move(done));
    return;
  }
  stopped_ = std::move(done);
  {
    const std::scoped_lock lock(shared_->mutex);
    shared_->stopping = true;
  }
  shared_->changed.notify_one();
}

void FileSink::work(const std::shared_ptr<Shared>& shared) {
  FileWriter& writer = shared->writer;
  std::vector<BlockPtr> blocks;
  std::unique_lock lock(shared->mutex);
  for (;;) {
    // An attempt that has ended must not keep the file locked.
    if (!shared->attempt && writer.is_open()) {
      lock.unlock();
      writer.close();
      lock.lock();
      continue;
    }
    if (shared->stopping) {
      break;
    }
    if (shared->open_wanted) {
      shared->open_wanted = false;
      const Attempt attempt = *shared->attempt;
      lock.unlock();
      Report report{attempt, writer.open(), {}, false};
      const bool ok = !report.opened->failure;
      lock.lock();
      if (shared->attempt == attempt) {
        shared->opened = ok;
        post(shared, std::move(report));
      }
      continue;
    }
    if (shared->opened && !shared->blocks.empty()) {
      blocks.swap(shared->blocks);
      const Attempt attempt = *shared->attempt;
      lock.unlock();
      Report report{attempt, {}, writer.commit(blocks), false};
      const bool ok = !report.committed->failure && !report.committed->refused;
      blocks.clear();
      if (!ok) {
        writer.close();
      }
      lock.lock();
      if (shared->attempt == attempt) {
        shared->opened = ok;
        post(shared, std::move(report));
      }
      continue;
    }
    shared->changed.wait(lock);
  }
  post(shared, {{}, {}, {}, true});
}

// Requires the mutex: the sink takes it before it goes, so that nothing is posted to an io_context
// that may be gone with it.
void FileSink::post(const std::shared_ptr<Shared>& shared, Report report) {
  if (shared->io == nullptr) {
    return;
  }
  boost::asio::post(*shared->io, [shared, report = std::move(report)]() mutable {
    if (shared->owner != nullptr) {
      shared->owner->on_report(std::move(report));
    }
  });
}

void FileSink::on_report(Report report) {
  if (report.stopped) {
    worker_.join();
    std::exchange(stopped_, nullptr)();
    return;
  }
  if (!active_ || report.attempt != attempt_) {
    return;
  }
  if (report.opened) {
    open_timer_.cancel();
    if (report.opened->failure) {
      end_attempt();
      events_.lost(report.attempt, report.opened->failure->cause,
                   std::move(report.opened->failure->text));
      return;
    }
    connected_ = true;
    events_.connected(report.attempt, report.opened->held);
    return;
  }
  FileWriter::Committed& committed = *report.committed;
  if (committed.acked) {
    events_.acked(report.attempt, *committed.acked);
  }
  if (committed.failure) {
    end_attempt();
    events_.lost(report.attempt, committed.failure->cause, std::move(committed.failure->text));
  } else if (committed.refused) {
    end_attempt();
    events_.rejected(report.attempt, committed.refused->first, committed.refused->last,
                     std::move(committed.refused->text));
  }
}

}  // namespace spillway::broker

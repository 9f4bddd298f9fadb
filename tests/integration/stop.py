"""Starting and stopping: in order, fast, once per data_dir (D1)."""
import harness
from harness import FAILED, expect, file_sink, sequence, stream, tcp_sink
from verify import delivered, same

RECORDS = 40_000


def sigterm_under_load_ends_cleanly_and_nothing_is_repeated_after_it(run):
    published = run.records("records", RECORDS)
    receiver = run.receiver(run.port(), "taken").start()
    broker = run.broker("broker", stream(tcp_sink("t", receiver.port),
                                         file_sink("f", run.folder / "kept"))).start()
    publisher = run.publish(broker.address, published, "--rate", "10000")
    for goal in (5_000, 15_000, 25_000):
        broker.wait_sink("goes on", "t", lambda s: sequence(s["acked"]) > goal)
        took = broker.stop()
        expect(took < 8, f"it took {took:.1f} s to stop")
        expect("within stop_timeout" not in broker.log(), broker.log()[-2000:])
        broker.start()
    publisher.result()
    broker.wait_drained("t")
    broker.wait_drained("f")
    repeats = delivered(receiver.path, published)
    same(run.folder / "kept", published)
    # What was on its way when it stopped may come twice; what the receiver had counted may not.
    run.say(f"{repeats} repeats")
    expect(repeats < 3 * 2_000, f"{repeats} repeats")


def sigterm_after_everything_was_taken_repeats_nothing_and_needs_no_epoch(run):
    published = run.records("records", RECORDS)
    more = run.records("more", RECORDS + 1_000)
    receiver = run.receiver(run.port(), "taken").start()
    broker = run.broker("broker", stream(tcp_sink("t", receiver.port))).start()
    result = run.publish(broker.address, published).result()
    broker.wait_drained("t")
    broker.stop()
    broker.start()
    result = run.publish(broker.address, more, "--resume").result()
    expect((result["skipped"], result["published"]) == (RECORDS, 1_000), result)
    broker.wait_drained("t")
    expect(delivered(receiver.path, more) == 0, "records came twice")


def sigterm_with_sinks_that_are_away_or_hang_is_as_fast(run):
    published = run.records("records", RECORDS)
    silent = run.receiver(run.port(), "silent").start()
    silent.reading.clear()
    broker = run.broker("broker", stream(tcp_sink("away", run.port()),
                                         tcp_sink("silent", silent.port))).start()
    run.publish(broker.address, published).result()
    took = broker.stop()
    expect(took < 8, f"it took {took:.1f} s to stop")
    silent.reading.set()
    broker.start()
    broker.wait_drained("silent")
    delivered(silent.path, published)


def a_second_broker_on_the_same_data_dir_is_refused_and_harms_nothing(run):
    published = run.records("records", RECORDS)
    broker = run.broker("broker", stream(file_sink("f", run.folder / "kept"))).start()
    other = run.broker("other", stream(file_sink("f", run.folder / "other-kept")))
    other.config.write_text(other.config.read_text().replace(str(other.data_dir),
                                                            str(broker.data_dir)))
    expect(other.launch().process.wait() == FAILED, "it started")
    expect(str(broker.data_dir) in other.log(), f"it does not say why: {other.log()}")
    run.publish(broker.address, published).result()
    broker.wait_drained("f")
    same(run.folder / "kept", published)


def a_broker_that_dies_while_it_starts_starts_again(run):
    published = run.records("records", RECORDS)
    receiver = run.receiver(run.port(), "taken")
    broker = run.broker("broker", stream(tcp_sink("t", receiver.port))).start()
    run.publish(broker.address, published).result()
    for _ in range(8):
        broker.kill().launch()
        harness.pause(run.random.uniform(0, 0.1))
    broker.kill()
    receiver.start()
    broker.start()
    broker.wait_drained("t")
    delivered(receiver.path, published)
    broker.stop()
    broker.cli("journal", "check")


if __name__ == "__main__":
    harness.main()

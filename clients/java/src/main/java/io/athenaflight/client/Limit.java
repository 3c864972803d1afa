package io.athenaflight.client;

import java.time.Duration;
import java.util.concurrent.TimeUnit;
import org.apache.arrow.flight.CallOption;
import org.apache.arrow.flight.CallOptions;

/** By when something must be there. */
final class Limit {
  // Longer than any process lives, and short enough to be added to a clock of nanoseconds.
  private static final Duration ENDLESS = Duration.ofDays(365 * 100);
  private static final CallOption NO_OPTION = new CallOption() {};

  private final Duration length;
  private final long end;

  private Limit(Duration length) {
    this.length = length;
    this.end = System.nanoTime() + length.toNanos();
  }

  static Limit in(Duration length) {
    return new Limit(length.compareTo(ENDLESS) < 0 ? length : ENDLESS);
  }

  static Limit none() {
    return new Limit(ENDLESS);
  }

  /** This one, or {@code length} from now on, whichever is sooner. */
  Limit orIn(Duration length) {
    Limit other = in(length);
    return other.end - end < 0 ? other : this;
  }

  /** Less than nothing when it has passed. */
  long leftNanos() {
    return end - System.nanoTime();
  }

  /** The deadline of a call. */
  CallOption option() {
    return length.equals(ENDLESS) ? NO_OPTION : CallOptions.timeout(Math.max(0, leftNanos()), TimeUnit.NANOSECONDS);
  }
}

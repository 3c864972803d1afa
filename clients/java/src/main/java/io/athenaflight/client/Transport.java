package io.athenaflight.client;

import io.athenaflight.client.FlightDataException.Cancelled;
import io.athenaflight.client.FlightDataException.ServerError;
import io.athenaflight.client.FlightDataException.Unauthenticated;
import io.athenaflight.client.FlightDataException.Unavailable;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.function.Supplier;
import org.apache.arrow.flight.Action;
import org.apache.arrow.flight.CallOption;
import org.apache.arrow.flight.CallOptions;
import org.apache.arrow.flight.Criteria;
import org.apache.arrow.flight.FlightCallHeaders;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.flight.FlightInfo;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.flight.HeaderCallOption;
import org.apache.arrow.flight.Result;
import org.apache.arrow.flight.Ticket;

/** One connection to one server: credentials, our exceptions, retries with back-off. Thread-safe. */
final class Transport implements AutoCloseable {
  /** A stream that was asked for, and what its call says. */
  record Opened(FlightStream stream, Watch watch) {}

  /** The server asks for these to be tried again; a lost connection may have done half of the work. */
  static final Set<String> RETRIED = Set.of("busy", "draining", "engine-throttled");

  private static final String AUTHORIZATION = "authorization";
  // The pauses between tries grow up to this, or stay at the first one where that is longer.
  private static final long RETRY_MAX_MS = 5_000;
  // Everything but a stream answers within milliseconds; a server that says nothing for so long never will.
  private static final CallOption LIMIT = CallOptions.timeout(60, TimeUnit.SECONDS);

  private final FlightClient client;
  private final String user;
  private final String password;
  private final Duration retryFor;
  private final Duration retryFirst;
  private final Supplier<Map<String, String>> trace;
  private final CountDownLatch closed = new CountDownLatch(1);
  private volatile Map<String, String> authorization = Map.of();

  /** {@code token}, or {@code user} and {@code password}, or neither. */
  Transport(
      FlightClient client,
      String token,
      String user,
      String password,
      Duration retryFor,
      Duration retryFirst,
      Supplier<Map<String, String>> trace) {
    this.client = client;
    this.user = user;
    this.password = password;
    this.retryFor = retryFor;
    this.retryFirst = retryFirst;
    this.trace = trace;
    if (token != null) {
      authorization = Map.of(AUTHORIZATION, "Bearer " + token);
    } else if (user != null) {
      logIn();
    }
  }

  List<FlightInfo> listFlights() {
    return call(
        options -> {
          List<FlightInfo> found = new ArrayList<>();
          client.listFlights(Criteria.ALL, options).forEach(found::add);
          return found;
        });
  }

  FlightInfo flightInfo(Request request) {
    FlightDescriptor asked = FlightDescriptor.command(Values.encode(request.toJson()));
    return call(options -> client.getInfo(asked, options));
  }

  /** The one result of an action. */
  byte[] action(String name, Map<String, ?> body) {
    Action asked = new Action(name, Values.encode(body));
    List<Result> found =
        call(
            options -> {
              List<Result> results = new ArrayList<>();
              client.doAction(asked, options).forEachRemaining(results::add);
              return results;
            });
    if (found.size() != 1) {
      throw new ServerError("unexpected", "the action " + name + " gave " + found.size() + " results, not one");
    }
    return found.get(0).getBody();
  }

  /** The headers of the trace that this thread is in. */
  Map<String, String> trace() {
    return trace.get();
  }

  /**
   * Asks for a stream, in a trace, and does not wait for it: what goes wrong is met by who reads it. No time limit.
   */
  Opened open(Ticket ticket, Map<String, String> trace) {
    Watch watch = new Watch();
    CallOption[] options = {headers(authorization), headers(trace)};
    return new Opened(watch.over(() -> client.getStream(ticket, options)), watch);
  }

  /**
   * {@code call}, again after a pause while the server says busy, draining or engine-throttled. Throws Cancelled as soon
   * as {@code stop} is opened in a pause.
   */
  <T> T retried(Supplier<T> call, CountDownLatch stop) {
    long deadline = System.nanoTime() + retryFor.toNanos();
    long pauseMs = retryFirst.toMillis();
    while (true) {
      // Full jitter: clients that were turned away together do not come back together.
      long jittered = ThreadLocalRandom.current().nextLong(pauseMs / 2, pauseMs + 1);
      try {
        return call.get();
      } catch (Unavailable error) {
        boolean late = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(jittered) > deadline;
        if (late || !RETRIED.contains(error.code())) {
          throw error;
        }
      }
      pause(jittered, stop);
      pauseMs = Math.max(pauseMs, Math.min(2 * pauseMs, RETRY_MAX_MS));
    }
  }

  /** {@code call} with its errors translated, and once more with a new token where the old one has expired. */
  <T> T mended(Supplier<T> call) {
    try {
      return translated(call);
    } catch (Unauthenticated error) {
      if (user == null || !error.code().equals("expired-credential")) {
        throw error;
      }
      logIn();
      return translated(call);
    }
  }

  /** Throws Cancelled when the client is closed meanwhile. */
  void pause(long ms) {
    pause(ms, closed);
  }

  /** Throws Cancelled when {@code stop} is opened meanwhile, and when the thread is interrupted, which it leaves so. */
  private static void pause(long ms, CountDownLatch stop) {
    try {
      if (stop.await(ms, TimeUnit.MILLISECONDS)) {
        throw new Cancelled("cancelled", "it was closed or cancelled while it waited");
      }
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
      throw new Cancelled("cancelled", "the thread was interrupted while it waited");
    }
  }

  @Override
  public void close() {
    closed.countDown();
    close(client);
  }

  /** Waits for the connection to end; an interrupt waits until then. */
  static void close(FlightClient client) {
    boolean interrupted = Thread.interrupted();
    try {
      client.close();
    } catch (InterruptedException error) {
      interrupted = true;
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  private <T> T call(Function<CallOption[], T> call) {
    Map<String, String> here = trace();
    return retried(
        () -> mended(() -> call.apply(new CallOption[] {headers(authorization), headers(here), LIMIT})), closed);
  }

  private static <T> T translated(Supplier<T> call) {
    try {
      return call.get();
    } catch (RuntimeException error) {
      throw Errors.fromWire(error, false);
    }
  }

  private void logIn() {
    Watch watch = new Watch();
    String pair = Base64.getEncoder().encodeToString((user + ":" + password).getBytes(StandardCharsets.UTF_8));
    translated(
        () ->
            watch.over(
                () -> {
                  client.handshake(headers(Map.of(AUTHORIZATION, "Basic " + pair)), LIMIT);
                  return null;
                }));
    authorization =
        Map.of(
            AUTHORIZATION,
            watch
                .said(AUTHORIZATION)
                .orElseThrow(() -> new ServerError("unexpected", "the server took the password and gave no token")));
  }

  private static CallOption headers(Map<String, String> given) {
    FlightCallHeaders headers = new FlightCallHeaders();
    given.forEach(headers::insert);
    return new HeaderCallOption(headers);
  }
}

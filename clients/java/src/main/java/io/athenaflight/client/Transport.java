package io.athenaflight.client;

import io.athenaflight.client.FlightDataException.Cancelled;
import io.athenaflight.client.FlightDataException.ServerError;
import io.athenaflight.client.FlightDataException.Unauthenticated;
import io.athenaflight.client.FlightDataException.Unavailable;
import io.grpc.ManagedChannel;
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
import org.apache.arrow.flight.Criteria;
import org.apache.arrow.flight.FlightCallHeaders;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.flight.FlightInfo;
import org.apache.arrow.flight.FlightRuntimeException;
import org.apache.arrow.flight.FlightStatusCode;
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

  // A session or token that ran out, and one that the server no longer takes: it was started anew with another secret.
  private static final Set<String> ENDED = Set.of("expired-credential", "bad-credential");

  // The pauses between tries grow up to this, or stay at the first one where that is longer.
  private static final long RETRY_MAX_MS = 5_000;

  /** What a client was built with; {@code token}, or {@code user} and {@code password}, or neither. */
  record Settings(
      Supplier<String> token,
      String user,
      String password,
      Duration callTimeout,
      Duration retryFor,
      Duration retryFirst,
      Supplier<Map<String, String>> trace) {}

  private final FlightClient client;
  private final ManagedChannel channel;
  private final Settings settings;
  private final Credential credential;
  private final CountDownLatch closed = new CountDownLatch(1);

  /** Logs in where there is a user. {@code client} speaks over {@code channel}, and both are closed with this. */
  Transport(FlightClient client, ManagedChannel channel, Settings settings) {
    this.client = client;
    this.channel = channel;
    this.settings = settings;
    this.credential = new Credential(settings.token, settings.user == null ? null : this::logIn);
  }

  List<FlightInfo> listFlights() {
    return call(
        Limit.none(),
        options -> {
          List<FlightInfo> found = new ArrayList<>();
          client.listFlights(Criteria.ALL, options).forEach(found::add);
          return found;
        });
  }

  FlightInfo flightInfo(Request request, Limit limit) {
    FlightDescriptor asked = FlightDescriptor.command(Values.encode(request.toJson()));
    return call(limit, options -> client.getInfo(asked, options));
  }

  /** The one result of an action. */
  byte[] action(String name, Map<String, ?> body) {
    Action asked = new Action(name, Values.encode(body));
    List<Result> found =
        call(
            Limit.none(),
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
    return settings.trace.get();
  }

  /** Asks for a stream, in a trace, and does not wait for it: what goes wrong is met by who reads it. */
  Opened open(Ticket ticket, Map<String, String> authorization, Map<String, String> trace, Limit limit) {
    checkOpen();
    Watch watch = new Watch();
    CallOption[] options = {headers(authorization), headers(trace), limit.option()};
    return new Opened(watch.over(() -> client.getStream(ticket, options)), watch);
  }

  /**
   * {@code call}, again after a pause while the server says busy, draining or engine-throttled and {@code limit} allows.
   * Throws Cancelled as soon as {@code stop} is opened in a pause.
   */
  <T> T retried(Supplier<T> call, CountDownLatch stop, Limit limit) {
    Limit end = limit.orIn(settings.retryFor);
    long pauseMs = settings.retryFirst.toMillis();
    while (true) {
      // Full jitter: clients that were turned away together do not come back together.
      long jittered = ThreadLocalRandom.current().nextLong(pauseMs / 2, pauseMs + 1);
      try {
        return call.get();
      } catch (Unavailable error) {
        if (TimeUnit.MILLISECONDS.toNanos(jittered) > end.leftNanos() || !RETRIED.contains(error.code())) {
          throw error;
        }
        if (error.code().equals("draining")) {
          // This server is about to end; behind a load balancer a new connection finds another one.
          channel.enterIdle();
        }
      }
      pause(jittered, stop);
      pauseMs = Math.max(pauseMs, Math.min(2 * pauseMs, RETRY_MAX_MS));
    }
  }

  /** {@code call} with a credential, its errors translated, and once more where the credential is good no longer. */
  <T> T mended(Function<Map<String, String>, T> call) {
    Map<String, String> used = credential.headers();
    try {
      return translated(() -> call.apply(used));
    } catch (Unauthenticated error) {
      if (!ENDED.contains(error.code()) || !credential.renewed(used)) {
        throw error;
      }
    }
    Map<String, String> renewed = credential.headers();
    return translated(() -> call.apply(renewed));
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

  /** Calls that wait for the server end with Cancelled. */
  @Override
  public void close() {
    closed.countDown();
    channel.shutdownNow();
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

  private <T> T call(Limit limit, Function<CallOption[], T> call) {
    checkOpen();
    Map<String, String> here = trace();
    return retried(() -> mended(authorization -> once(limit, authorization, here, call)), closed, limit);
  }

  private <T> T once(
      Limit limit, Map<String, String> authorization, Map<String, String> trace, Function<CallOption[], T> call) {
    Limit sooner = limit.orIn(settings.callTimeout);
    try {
      return call.apply(new CallOption[] {headers(authorization), headers(trace), sooner.option()});
    } catch (FlightRuntimeException error) {
      if (error.status().code() == FlightStatusCode.TIMED_OUT) {
        // Nothing may get through on this connection any more: the next call takes another one.
        channel.enterIdle();
      }
      throw error;
    }
  }

  private <T> T translated(Supplier<T> call) {
    try {
      return call.get();
    } catch (RuntimeException error) {
      if (closed.getCount() == 0) {
        throw new Cancelled("cancelled", "the client was closed");
      }
      throw Errors.fromWire(error, false);
    }
  }

  private void checkOpen() {
    if (closed.getCount() == 0) {
      throw new IllegalStateException("the client is closed");
    }
  }

  /** The header of a new session. */
  private String logIn() {
    Watch watch = new Watch();
    byte[] pair = (settings.user + ":" + settings.password).getBytes(StandardCharsets.UTF_8);
    Map<String, String> basic =
        Map.of(Credential.AUTHORIZATION, "Basic " + Base64.getEncoder().encodeToString(pair));
    return translated(
        () ->
            watch.over(
                () -> {
                  client.handshake(headers(basic), Limit.in(settings.callTimeout).option());
                  return watch
                      .said(Credential.AUTHORIZATION)
                      .orElseThrow(
                          () -> new ServerError("unexpected", "the server took the password and gave no token"));
                }));
  }

  private static CallOption headers(Map<String, String> given) {
    FlightCallHeaders headers = new FlightCallHeaders();
    given.forEach(headers::insert);
    return new HeaderCallOption(headers);
  }
}

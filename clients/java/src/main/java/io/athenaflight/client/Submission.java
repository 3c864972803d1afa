package io.athenaflight.client;

import com.fasterxml.jackson.annotation.JsonProperty;
import io.athenaflight.client.FlightDataException.Cancelled;
import io.athenaflight.client.FlightDataException.ServerError;
import io.athenaflight.client.FlightDataException.TimedOut;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Map;
import java.util.function.Function;
import org.apache.arrow.flight.FlightInfo;

/** A query that the server runs whether or not anybody waits for it. */
public final class Submission {
  /** How a submitted query stands; {@code error} is null unless it FAILED. */
  public record Status(
      String id,
      State state,
      long rows,
      long bytes,
      @JsonProperty("elapsed_ms") long elapsedMs,
      @JsonProperty("scanned_bytes") long scannedBytes,
      String error) {
    public boolean done() {
      return state != State.QUEUED && state != State.RUNNING;
    }
  }

  /** The states of docs/protocol.md. */
  public enum State {
    QUEUED,
    RUNNING,
    SUCCEEDED,
    FAILED,
    CANCELLED
  }

  // Pauses between two looks: short for short queries, and never so long that a person would notice.
  private static final long POLL_FIRST_MS = 50;
  private static final long POLL_MAX_MS = 2_000;

  private final Transport transport;
  private final String id;
  private final Function<FlightInfo, BatchStream> reader;

  Submission(Transport transport, String id, Function<FlightInfo, BatchStream> reader) {
    this.transport = transport;
    this.id = id;
    this.reader = reader;
  }

  /** With it, {@link FlightDataClient#submission} finds the query again, for the same caller at the same server. */
  public String id() {
    return id;
  }

  /** How it stands now. Throws NotFound (unknown-query) when the server keeps it no longer. */
  public Status status() {
    return Values.decode(transport.action("status", Map.of("id", id)), Status.class);
  }

  /** Waits for the end, whatever it is. Throws TimedOut after {@code limit}; the query then goes on. */
  public Status await(Duration limit) {
    long deadline = System.nanoTime() + limit.toNanos();
    long pauseMs = POLL_FIRST_MS;
    Status found = status();
    while (!found.done()) {
      if (System.nanoTime() > deadline) {
        throw new TimedOut("timeout", "query " + id + " is still " + found.state() + " after " + limit);
      }
      transport.pause(pauseMs);
      pauseMs = Math.min(2 * pauseMs, POLL_MAX_MS);
      found = status();
    }
    return found;
  }

  /** The result, after a wait for it. Throws what the query ended with, Cancelled, or TimedOut after {@code limit}. */
  public BatchStream result(Duration limit) {
    Status found = await(limit);
    if (found.state() == State.CANCELLED) {
      throw new Cancelled("cancelled", "query " + id + " was cancelled");
    }
    if (found.state() == State.FAILED) {
      throw Errors.ofSubmitted(found.error() == null ? "" : found.error());
    }
    try {
      return reader.apply(FlightInfo.deserialize(ByteBuffer.wrap(transport.action("result", Map.of("id", id)))));
    } catch (IOException | URISyntaxException error) {
      FlightDataException ours = new ServerError("unexpected", "the result of query " + id + " is no FlightInfo");
      ours.initCause(error);
      throw ours;
    }
  }

  /** Stops it and drops its result; one that has ended stays as it is. */
  public Status cancel() {
    transport.action("cancel", Map.of("id", id));
    return status();
  }
}

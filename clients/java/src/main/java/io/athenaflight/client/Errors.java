package io.athenaflight.client;

import io.athenaflight.client.FlightDataException.Cancelled;
import io.athenaflight.client.FlightDataException.Denied;
import io.athenaflight.client.FlightDataException.InvalidRequest;
import io.athenaflight.client.FlightDataException.NotFound;
import io.athenaflight.client.FlightDataException.ServerError;
import io.athenaflight.client.FlightDataException.TimedOut;
import io.athenaflight.client.FlightDataException.Unauthenticated;
import io.athenaflight.client.FlightDataException.Unavailable;
import io.athenaflight.client.FlightDataException.Unsupported;
import java.util.Map;
import java.util.function.BiFunction;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.arrow.flight.CallStatus;
import org.apache.arrow.flight.FlightRuntimeException;
import org.apache.arrow.flight.FlightStatusCode;
import org.apache.arrow.memory.OutOfMemoryException;

/** What Arrow Flight threw as one of our exceptions, without what gRPC and Arrow put around the server's words. */
final class Errors {
  private static final Pattern CODE = Pattern.compile("\\[([a-z]+(?:-[a-z]+)*)\\] ");
  private static final Pattern SUBMITTED = Pattern.compile("\\[([a-z-]+)\\] (.*)", Pattern.DOTALL);

  /** What a code that this release does not know falls back to. */
  private static final Map<FlightStatusCode, BiFunction<String, String, FlightDataException>> BY_STATUS =
      Map.of(
          FlightStatusCode.INVALID_ARGUMENT, InvalidRequest::new,
          FlightStatusCode.NOT_FOUND, NotFound::new,
          FlightStatusCode.UNAUTHENTICATED, Unauthenticated::new,
          FlightStatusCode.UNAUTHORIZED, Denied::new,
          FlightStatusCode.UNIMPLEMENTED, Unsupported::new,
          FlightStatusCode.UNAVAILABLE, Unavailable::new,
          FlightStatusCode.TIMED_OUT, TimedOut::new,
          FlightStatusCode.CANCELLED, Cancelled::new);

  private static final String OTHER_PORT = "this is not the port of Flight, 8815 unless set otherwise";

  // What gRPC says where an address is nearly right, and what to do about it.
  private static final Map<String, String> HINTS =
      Map.of(
          "Connection refused", "; does it run there",
          "not an SSL/TLS record", "; it speaks no TLS, write grpc://",
          "Network closed for unknown reason", "; if it speaks TLS, write grpc+tls://",
          "PKIX path", "; tlsRoots names the PEM file of an authority of one's own",
          "First received frame was not SETTINGS", "; " + OTHER_PORT);

  private Errors() {}

  /** {@code rowsSeen}: rows of the stream had already been handed out. An interrupted thread is so afterwards. */
  static FlightDataException fromWire(RuntimeException error, boolean rowsSeen) {
    if (error instanceof FlightDataException ours) {
      return ours;
    }
    if (error.getCause() instanceof InterruptedException) {
      // Whoever threw it took the sign from the thread.
      Thread.currentThread().interrupt();
      return new Cancelled("cancelled", "the thread was interrupted while it waited for the server");
    }
    if (error instanceof FlightRuntimeException flight) {
      return fromStatus(flight.status(), rowsSeen);
    }
    return unexpected(error);
  }

  /** The failure of a submitted query, as its status words it: {@code [code] message}. */
  static FlightDataException ofSubmitted(String text) {
    Matcher found = SUBMITTED.matcher(text);
    return found.matches()
        ? FlightDataException.of(found.group(1), found.group(2), ServerError::new)
        : new ServerError("unexpected", text);
  }

  private static FlightDataException fromStatus(CallStatus status, boolean rowsSeen) {
    BiFunction<String, String, FlightDataException> byStatus =
        BY_STATUS.getOrDefault(status.code(), ServerError::new);
    String text = said(status);
    Matcher found = CODE.matcher(text);
    if (found.find()) {
      return FlightDataException.of(found.group(1), text.substring(found.end()), byStatus);
    }
    // No code: not written by an athena-flight server, so most often no server at all.
    String hint = HINTS.keySet().stream().filter(text::contains).map(HINTS::get).findFirst().orElse("");
    // gRPC's word, with the status UNKNOWN, for a call that began just as its connection ended.
    boolean closed = text.startsWith("channel closed");
    if (status.code() == FlightStatusCode.UNAVAILABLE || closed || !hint.isEmpty()) {
      return rowsSeen
          ? new Unavailable("connection-lost", "the stream broke off, the rows so far are not all: " + text)
          : new Unavailable("unreachable", "there is no answer from the server" + hint + ": " + text);
    }
    if (status.code() == FlightStatusCode.TIMED_OUT) {
      return new TimedOut("timeout", "the time limit of this client has passed: " + text);
    }
    if (isOfMemory(status.cause())) {
      return new Unavailable("out-of-memory", "the memory that this client may have is used up: " + text);
    }
    if (status.code() == FlightStatusCode.CANCELLED) {
      return new Cancelled("cancelled", "the call was cancelled on this side: " + text);
    }
    boolean other = text.startsWith("Method not found");
    return byStatus.apply("unexpected", other ? text + "; " + OTHER_PORT : text);
  }

  /** gRPC ends a call that way, as if it were cancelled, where a batch found no place. */
  private static boolean isOfMemory(Throwable cause) {
    return cause != null && (cause instanceof OutOfMemoryException || isOfMemory(cause.getCause()));
  }

  private static FlightDataException unexpected(RuntimeException error) {
    FlightDataException found = new ServerError("unexpected", oneLine(error.toString()));
    // Not of the wire, so a defect here or in Arrow: whoever mends it needs to see where.
    found.initCause(error);
    return found;
  }

  private static String said(CallStatus status) {
    String text = status.description() == null ? status.code().name() : status.description();
    // pyarrow's servers append the name of the exception.
    int detail = text.lastIndexOf(". Detail: ");
    text = detail < 0 ? text : text.substring(0, detail);
    // gRPC says "io exception"; what kind of one is in the causes.
    for (Throwable cause = status.cause(); cause != null; cause = cause.getCause()) {
      if (cause.getMessage() != null && !text.contains(cause.getMessage())) {
        text += ": " + cause.getMessage();
      }
    }
    return oneLine(text);
  }

  private static String oneLine(String text) {
    return text.strip().replaceAll("\\s+", " ");
  }
}

package io.athenaflight.client;

import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Supplier;
import org.apache.arrow.flight.CallHeaders;
import org.apache.arrow.flight.CallStatus;
import org.apache.arrow.flight.FlightClientMiddleware;

/**
 * What one call says beside its data: headers, and the trailers of its end.
 *
 * <p>Arrow's client has no other way to the trailers: it hands them to a middleware as the metadata of the status, for OK
 * too, before the end of the stream is seen by who reads it.
 */
final class Watch implements FlightClientMiddleware {
  // Of the call that this thread is about to start: Arrow makes middleware in the thread that calls.
  private static final ThreadLocal<Watch> NEXT = new ThreadLocal<>();

  private final Map<String, String> said = new ConcurrentHashMap<>();

  /** The middleware of a call that starts now. */
  static Watch ofThisCall() {
    Watch wanted = NEXT.get();
    return wanted == null ? new Watch() : wanted;
  }

  /** Starts a call, in this thread, that this one watches. */
  <T> T over(Supplier<T> call) {
    NEXT.set(this);
    try {
      return call.get();
    } finally {
      NEXT.remove();
    }
  }

  Optional<String> said(String name) {
    return Optional.ofNullable(said.get(name));
  }

  @Override
  public void onBeforeSendingHeaders(CallHeaders headers) {
    // Credentials are options of the calls.
  }

  @Override
  public void onHeadersReceived(CallHeaders headers) {
    keep(headers);
  }

  @Override
  public void onCallCompleted(CallStatus status) {
    if (status.metadata() != null) {
      keep(status.metadata());
    }
  }

  private void keep(CallHeaders headers) {
    for (String name : headers.keys()) {
      // Binary ones are Arrow's own, and none of ours.
      if (!name.endsWith("-bin")) {
        said.put(name, headers.get(name));
      }
    }
  }
}

package io.athenaflight.client;

import io.athenaflight.client.FlightDataException.Cancelled;
import io.athenaflight.client.FlightDataException.ServerError;
import io.athenaflight.client.FlightDataException.Unsupported;
import java.net.URI;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.function.Consumer;
import org.apache.arrow.flight.FlightEndpoint;
import org.apache.arrow.flight.FlightInfo;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.flight.Location;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.types.pojo.Schema;

/**
 * An answer, batch by batch, once: at most 64 Ki rows and 8 MiB each, a few of them waiting in memory.
 *
 * <p>The batch that {@link #next} gives belongs to the stream: it is filled anew by the next {@link #hasNext} or {@link
 * #next}, and freed by {@link #close}. What is to be kept is copied or transferred out of it.
 *
 * <p>The end, an exception and {@link #close} free everything. Closing before the end cancels the query on the server.
 * {@link #hasNext} says false only when the server has said that this was all, and as many rows came as it has counted.
 *
 * <p>For one thread; {@link #cancel} and {@link #close} may come from another one.
 */
public final class BatchStream implements Iterator<VectorSchemaRoot>, Iterable<VectorSchemaRoot>, AutoCloseable {
  private static final URI HERE = Location.reuseConnection().getUri();

  private final Transport transport;
  private final Schema schema;
  private final List<FlightEndpoint> endpoints;
  private final Consumer<BatchStream> onClose;
  // Of who asked: another thread may read.
  private final Map<String, String> trace;
  private final Limit limit;
  // Opened by cancel, so that who pauses between two tries does not wait until the next one.
  private final CountDownLatch stopped = new CountDownLatch(1);
  private int next;
  private volatile Transport.Opened open;
  // Rows of the open endpoint.
  private long rows;
  private VectorSchemaRoot ready;
  private boolean ended;
  private String receipt;
  private boolean closed;
  private FlightDataException failure;

  BatchStream(Transport transport, FlightInfo info, Limit limit, Consumer<BatchStream> onClose) {
    for (FlightEndpoint endpoint : info.getEndpoints()) {
      List<Location> locations = endpoint.getLocations();
      if (!locations.isEmpty() && locations.stream().noneMatch(each -> each.getUri().equals(HERE))) {
        throw new Unsupported("unsupported", "the answer is at another server; this client stays with its own");
      }
    }
    this.transport = transport;
    this.schema =
        info.getSchemaOptional()
            .orElseThrow(() -> new ServerError("unexpected", "the server's plan has no schema"));
    this.endpoints = info.getEndpoints();
    this.limit = limit;
    this.onClose = onClose;
    this.trace = transport.trace();
  }

  /** The contract's schema; there before the first batch, and when there are no rows. */
  public Schema schema() {
    return schema;
  }

  /** Waits for the next batch with rows. */
  @Override
  public synchronized boolean hasNext() {
    if (failure != null) {
      throw failure;
    }
    if (closed && !ended) {
      throw new IllegalStateException("the stream was closed before its end");
    }
    if (ended || ready != null) {
      return !ended;
    }
    try {
      ready = advance();
    } catch (RuntimeException error) {
      failure = Errors.fromWire(error, rows > 0);
      close();
      throw failure;
    }
    if (ready == null) {
      ended = true;
      close();
    }
    return !ended;
  }

  @Override
  public synchronized VectorSchemaRoot next() {
    if (!hasNext()) {
      throw new NoSuchElementException("all batches were read");
    }
    VectorSchemaRoot found = ready;
    ready = null;
    return found;
  }

  /**
   * What the answer was made from, for {@link Request#withAsOf}; there once {@link #hasNext} has said false. Empty from a
   * server that gives none. A receipt keeps nothing: to keep what it names, pin it.
   */
  public synchronized Optional<String> receipt() {
    return Optional.ofNullable(receipt);
  }

  /** This stream, for a loop; there is no second pass. */
  @Override
  public Iterator<VectorSchemaRoot> iterator() {
    return this;
  }

  /** Stops the query from another thread: who reads gets Cancelled. */
  public void cancel() {
    stopped.countDown();
    Transport.Opened running = open;
    if (running != null) {
      running.stream().cancel("cancelled by this client", null);
    }
  }

  @Override
  public void close() {
    // Who reads in another thread has the lock until the cancel reaches it.
    cancel();
    synchronized (this) {
      if (!closed) {
        closed = true;
        ready = null;
        release();
        onClose.accept(this);
      }
    }
  }

  /** The next batch with rows, or null at the end of the last endpoint. */
  private VectorSchemaRoot advance() {
    while (open != null || next < endpoints.size()) {
      VectorSchemaRoot found =
          open == null ? transport.retried(() -> transport.mended(this::first), stopped, limit) : read();
      if (found != null) {
        return found;
      }
      check();
      release();
    }
    return null;
  }

  /** Opens the next endpoint. What goes wrong before its first row may be tried again. */
  private VectorSchemaRoot first(Map<String, String> authorization) {
    rows = 0;
    open = transport.open(endpoints.get(next).getTicket(), authorization, trace, limit);
    try {
      if (stopped.getCount() == 0) {
        throw new Cancelled("cancelled", "the stream was cancelled");
      }
      VectorSchemaRoot found = read();
      next++;
      return found;
    } catch (RuntimeException error) {
      release();
      throw error;
    }
  }

  /** The next batch with rows of the open endpoint, or null at its end. Batches without rows are signs of life. */
  private VectorSchemaRoot read() {
    FlightStream stream = open.stream();
    while (stream.next()) {
      VectorSchemaRoot batch = stream.getRoot();
      if (batch.getRowCount() > 0) {
        rows += batch.getRowCount();
        return batch;
      }
    }
    return null;
  }

  /** gRPC ends a call with a status, so that what broke off is an error; this is for what lies between. */
  private void check() {
    open.watch()
        .said("x-athena-flight-rows")
        .ifPresent(
            said -> {
              if (Long.parseLong(said) != rows) {
                throw new ServerError(
                    "incomplete", String.format("the server sent %s rows and %,d arrived", said, rows));
              }
            });
    receipt = open.watch().said("x-athena-flight-receipt").orElse(null);
  }

  private void release() {
    Transport.Opened running = open;
    open = null;
    if (running == null) {
      return;
    }
    // Arrow waits here for gRPC to let go of the call, and an interrupted thread does not wait: memory would be lost.
    boolean interrupted = Thread.interrupted();
    try {
      running.stream().close();
    } catch (Exception error) {
      throw new IllegalStateException("Arrow could not free a stream", error);
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }
}

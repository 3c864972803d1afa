package io.athenaflight.client;

import com.fasterxml.jackson.annotation.JsonProperty;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.arrow.flight.FlightInfo;
import org.apache.arrow.memory.BufferAllocator;

/**
 * A connection to an athena-flight server: its datasets as Arrow record batches. Thread-safe, and made to be shared and
 * kept for the life of a program: it connects anew by itself, asking DNS again.
 *
 * <p>Methods block, and throw {@link FlightDataException}. Busy servers are asked again, with growing pauses; one that is
 * about to end is asked over a new connection, which a load balancer takes elsewhere; nothing else is asked again. An
 * interrupt ends a call with Cancelled.
 */
public final class FlightDataClient implements AutoCloseable {
  private record Pin(@JsonProperty("name") String name, @JsonProperty("tables") Map<String, Long> tables) {}

  private record Pins(@JsonProperty("pins") List<Pin> pins) {}

  private record Submitted(@JsonProperty("id") String id) {}

  private final Transport transport;
  private final BufferAllocator allocator;
  private final Set<BatchStream> streams = ConcurrentHashMap.newKeySet();

  /** {@code allocator} is this client's own, and is closed with it. */
  FlightDataClient(Transport transport, BufferAllocator allocator) {
    this.transport = transport;
    this.allocator = allocator;
  }

  /** A connection without a credential, to {@code grpc://host:port} or {@code grpc+tls://host:port}. */
  public static FlightDataClient connect(String url) {
    return builder(url).connect();
  }

  /** For a connection with a credential, certificates or memory of one's own. */
  public static ClientBuilder builder(String url) {
    return new ClientBuilder(url);
  }

  /** The names of the datasets that this caller may use, in order. */
  public List<String> datasets() {
    return transport.listFlights().stream().map(info -> info.getDescriptor().getPath().get(0)).sorted().toList();
  }

  /** The contract of the newest version. Throws NotFound (unknown-dataset). */
  public Contract describe(String name) {
    return Values.decode(transport.action("describe", Map.of("dataset", name)), Contract.class);
  }

  /** Who the server takes this client for, and what is left of its dollars of the day and of its SQL statements. */
  public Caller whoami() {
    return Values.decode(transport.action("whoami", Map.of()), Caller.class);
  }

  /** The pins that {@link Request#withAsOf} takes here: of each, the snapshots of those tables that this caller can read. */
  public Map<String, Map<String, Long>> pins() {
    Map<String, Map<String, Long>> found = new LinkedHashMap<>();
    for (Pin pin : Values.decode(transport.action("pins", Map.of()), Pins.class).pins()) {
      found.put(pin.name(), pin.tables());
    }
    return found;
  }

  /**
   * Keeps the snapshots that these tables have now, as {@code database.table}, under a name, from expiry too. For
   * operators; others get Denied. The same again changes nothing; a name that is taken is InvalidRequest.
   */
  public Map<String, Long> pin(String name, Collection<String> tables) {
    return pinned("pin", Map.of("name", name, "tables", tables));
  }

  /** The same of these snapshots, as a {@link Plan} names them. */
  public Map<String, Long> pin(String name, Map<String, Long> snapshots) {
    return pinned("pin", Map.of("name", name, "tables", snapshots));
  }

  /** Removes a pin, for operators, and returns what it held. Throws NotFound (unknown-pin). */
  public Map<String, Long> unpin(String name) {
    return pinned("unpin", Map.of("name", name));
  }

  /** {@link #plan(Request)} of the newest version. */
  public Plan plan(String name, Map<String, ?> params) {
    return plan(Request.of(name, params));
  }

  /** How the question would be answered: what it reads, at which snapshots, and what that costs. Nothing runs. */
  public Plan plan(Request request) {
    return Values.decode(transport.flightInfo(request, Limit.none()).getAppMetadata(), Plan.class);
  }

  /** {@link #stream(Request)} of the newest version. */
  public BatchStream stream(String name, Map<String, ?> params) {
    return stream(Request.of(name, params));
  }

  /**
   * The answer, which must be closed. What is wrong with the request is thrown here, before anything has run: this waits
   * for the plan, and the query starts with the first {@link BatchStream#hasNext}.
   */
  public BatchStream stream(Request request) {
    return read(transport.flightInfo(request, Limit.none()), Limit.none());
  }

  /**
   * The answer, all of which must be read within {@code limit} from now on. What is late throws TimedOut, and the query
   * is stopped on the server.
   */
  public BatchStream stream(Request request, Duration limit) {
    Limit end = Limit.in(limit);
    return read(transport.flightInfo(request, end), end);
  }

  /** {@link #submit(Request)} of the newest version. */
  public Submission submit(String name, Map<String, ?> params) {
    return submit(Request.of(name, params));
  }

  /** Starts a query that goes on without this client. */
  public Submission submit(Request request) {
    return submission(Values.decode(transport.action("submit", request.toJson()), Submitted.class).id());
  }

  /** A query that was submitted before, here or by another process of the same caller. */
  public Submission submission(String id) {
    return new Submission(transport, id, info -> read(info, Limit.none()));
  }

  /** Bytes outside of the heap that are held for this client now. */
  public long allocatedBytes() {
    return allocator.getAllocatedMemory();
  }

  /**
   * Ends the streams that are still open, cancels their queries, and gives all memory back. Calls that wait in other
   * threads end with Cancelled; later ones are an IllegalStateException. Closing again does nothing.
   */
  @Override
  public void close() {
    new ArrayList<>(streams).forEach(BatchStream::close);
    transport.close();
    allocator.close();
  }

  private BatchStream read(FlightInfo info, Limit limit) {
    BatchStream found = new BatchStream(transport, info, limit, streams::remove);
    streams.add(found);
    return found;
  }

  private Map<String, Long> pinned(String action, Map<String, ?> body) {
    return Values.decode(transport.action(action, body), Pin.class).tables();
  }
}

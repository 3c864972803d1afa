package io.athenaflight.client;

import io.grpc.ManagedChannel;
import java.net.URI;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.Supplier;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightGrpcUtils;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.memory.RootAllocator;

/** Where the server is and who asks. Made by {@link FlightDataClient#builder}. */
public final class ClientBuilder {
  private static final String FORMS = "write grpc://host:port, or grpc+tls://host:port";
  // Everything but a stream answers within milliseconds; a server that says nothing for so long never will.
  private static final Duration CALL_TIMEOUT = Duration.ofSeconds(60);
  // A busy server is reported after so long: a person waits that long, not longer.
  private static final Duration RETRY_FOR = Duration.ofSeconds(30);
  // The pause before the second try; those that follow are longer.
  private static final Duration RETRY_FIRST = Duration.ofMillis(200);

  private final URI url;
  private Supplier<String> token;
  private String user;
  private String password;
  private Path roots;
  private Path certificate;
  private Path key;
  private BufferAllocator parent;
  private Duration callTimeout = CALL_TIMEOUT;
  private Duration retryFor = RETRY_FOR;
  private Duration retryFirst = RETRY_FIRST;
  private Supplier<Map<String, String>> trace = Trace.ofTheProgram();

  ClientBuilder(String url) {
    this.url = URI.create(url);
    boolean known = "grpc".equals(this.url.getScheme()) || "grpc+tls".equals(this.url.getScheme());
    // A path would choose nothing.
    boolean more = this.url.getRawPath() != null && !this.url.getRawPath().matches("/?");
    if (!known || more || this.url.getHost() == null || this.url.getPort() < 0) {
      throw new IllegalArgumentException(url + " is no address of a server; " + FORMS);
    }
  }

  /** A bearer token: a static one or a JWT. */
  public ClientBuilder token(String bearer) {
    Objects.requireNonNull(bearer, "a token that is null");
    return token(() -> bearer);
  }

  /**
   * What gives the bearer token of each call, for those that are renewed while the client lives. It is called in the
   * thread that calls the client, often, and by several at once: it keeps its token until that is about to expire.
   */
  public ClientBuilder token(Supplier<String> bearer) {
    token = bearer;
    return this;
  }

  /**
   * A user and a password, which the server answers with a token. It is renewed when it has expired, once for all threads.
   */
  public ClientBuilder login(String name, String secret) {
    user = name;
    password = secret;
    return this;
  }

  /** The authorities to trust instead of Java's own: a PEM file, looked at for each new connection. */
  public ClientBuilder tlsRoots(Path pem) {
    roots = pem;
    return this;
  }

  /**
   * A client certificate: PEM files, the key in PKCS #8. They are looked at for each new connection, so that one that is
   * replaced in time needs nothing else; connections that are there go on with theirs.
   */
  public ClientBuilder clientCertificate(Path certificatePem, Path keyPem) {
    certificate = certificatePem;
    key = keyPem;
    return this;
  }

  /**
   * Memory that the client takes its share of; without it, it has its own without a limit. An open stream holds about
   * five batches of at most 8 MiB; where there is no place for one it throws Unavailable (out-of-memory).
   */
  public ClientBuilder allocator(BufferAllocator allocator) {
    parent = allocator;
    return this;
  }

  /**
   * The longest that the server may take to say anything: to a login, a plan, an action; not to send a stream, for which
   * {@link FlightDataClient#stream(Request, Duration)} has a limit. One minute unless it is set.
   */
  public ClientBuilder callTimeout(Duration limit) {
    callTimeout = limit;
    return this;
  }

  /** For how long a busy server is asked again; zero for not at all. */
  public ClientBuilder retryFor(Duration limit) {
    retryFor = limit;
    return this;
  }

  /**
   * What gives the headers of the caller's trace, {@code traceparent} and {@code tracestate}, or none; it is called in the
   * thread that calls the client. Without it they are those of OpenTelemetry's current context, where its API is on the
   * class path.
   */
  public ClientBuilder trace(Supplier<Map<String, String>> headers) {
    trace = headers;
    return this;
  }

  /** How long the first pause is: tests have one that outlasts them. */
  ClientBuilder retryFirst(Duration pause) {
    retryFirst = pause;
    return this;
  }

  /** Connects. Throws IllegalArgumentException for what does not go together, and what a login is refused with. */
  public FlightDataClient connect() {
    boolean tls = "grpc+tls".equals(url.getScheme());
    if (token != null && user != null) {
      throw new IllegalArgumentException("a token or a login, not both");
    }
    if (!tls && (roots != null || certificate != null)) {
      throw new IllegalArgumentException("certificates need an address that starts with grpc+tls://");
    }
    BufferAllocator allocator =
        parent == null ? new RootAllocator() : parent.newChildAllocator("athena-flight", 0, Long.MAX_VALUE);
    Transport transport = null;
    try {
      transport = transport(allocator, Channels.to(url, tls ? new Certificates.Tls(roots, certificate, key) : null));
      return new FlightDataClient(transport, allocator);
    } finally {
      if (transport == null) {
        allocator.close();
      }
    }
  }

  private Transport transport(BufferAllocator allocator, ManagedChannel channel) {
    FlightClient client =
        FlightGrpcUtils.createFlightClient(allocator, channel, List.of(info -> Watch.ofThisCall()));
    Transport found = null;
    try {
      found =
          new Transport(
              client,
              channel,
              new Transport.Settings(token, user, password, callTimeout, retryFor, retryFirst, trace));
      return found;
    } finally {
      if (found == null) {
        Transport.close(client);
      }
    }
  }
}

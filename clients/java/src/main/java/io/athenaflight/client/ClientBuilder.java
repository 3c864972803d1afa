package io.athenaflight.client;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.function.Supplier;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.Location;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.memory.RootAllocator;

/** Where the server is and who asks. Made by {@link FlightDataClient#builder}. */
public final class ClientBuilder {
  private static final String FORMS = "write grpc://host:port, or grpc+tls://host:port";
  // A busy server is reported after so long: a person waits that long, not longer.
  private static final Duration RETRY_FOR = Duration.ofSeconds(30);
  // The pause before the second try; those that follow are longer.
  private static final Duration RETRY_FIRST = Duration.ofMillis(200);

  private final URI url;
  private String token;
  private String user;
  private String password;
  private Path roots;
  private Path certificate;
  private Path key;
  private BufferAllocator parent;
  private Duration retryFor = RETRY_FOR;
  private Duration retryFirst = RETRY_FIRST;
  private Supplier<Map<String, String>> trace = Trace.ofTheProgram();

  ClientBuilder(String url) {
    this.url = URI.create(url);
    boolean known = "grpc".equals(this.url.getScheme()) || "grpc+tls".equals(this.url.getScheme());
    if (!known || this.url.getHost() == null || this.url.getPort() < 0) {
      throw new IllegalArgumentException(url + " is no address of a server; " + FORMS);
    }
  }

  /** A bearer token: a static one or a JWT. */
  public ClientBuilder token(String bearer) {
    token = bearer;
    return this;
  }

  /** A user and a password, which the server answers with a token. It is renewed when it has expired. */
  public ClientBuilder login(String name, String secret) {
    user = name;
    password = secret;
    return this;
  }

  /** The authorities to trust instead of Java's own: a PEM file. */
  public ClientBuilder tlsRoots(Path pem) {
    roots = pem;
    return this;
  }

  /** A client certificate: PEM files, the key in PKCS #8. */
  public ClientBuilder clientCertificate(Path certificatePem, Path keyPem) {
    certificate = certificatePem;
    key = keyPem;
    return this;
  }

  /** Memory that the client takes its share of; without it, it has its own without a limit. */
  public ClientBuilder allocator(BufferAllocator allocator) {
    parent = allocator;
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
      FlightClient client = client(allocator, tls);
      transport = transport(client);
      return new FlightDataClient(transport, allocator);
    } finally {
      if (transport == null) {
        allocator.close();
      }
    }
  }

  private Transport transport(FlightClient client) {
    Transport found = null;
    try {
      found = new Transport(client, token, user, password, retryFor, retryFirst, trace);
      return found;
    } finally {
      if (found == null) {
        Transport.close(client);
      }
    }
  }

  private FlightClient client(BufferAllocator allocator, boolean tls) {
    Location location =
        tls
            ? Location.forGrpcTls(url.getHost(), url.getPort())
            : Location.forGrpcInsecure(url.getHost(), url.getPort());
    FlightClient.Builder builder =
        FlightClient.builder(allocator, location).intercept(info -> Watch.ofThisCall());
    try (InputStream trusted = opened(roots);
        InputStream mine = opened(certificate);
        InputStream secret = opened(key)) {
      if (trusted != null) {
        builder.trustedCertificates(trusted);
      }
      if (mine != null) {
        builder.clientCertificate(mine, secret);
      }
      return builder.build();
    } catch (IOException error) {
      throw new UncheckedIOException("a certificate cannot be read", error);
    }
  }

  private static InputStream opened(Path file) throws IOException {
    return file == null ? null : Files.newInputStream(file);
  }
}

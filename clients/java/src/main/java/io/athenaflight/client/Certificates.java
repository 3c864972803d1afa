package io.athenaflight.client;

import io.grpc.netty.GrpcSslContexts;
import io.netty.buffer.ByteBufAllocator;
import io.netty.handler.ssl.ApplicationProtocolNegotiator;
import io.netty.handler.ssl.SslContext;
import io.netty.handler.ssl.SslContextBuilder;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLException;
import javax.net.ssl.SSLSessionContext;

/**
 * TLS from PEM files that are looked at for each new connection: certificates that last days are replaced while a service
 * runs. What cannot be used, as a file that is just being written, leaves what was read last in force.
 */
final class Certificates extends SslContext {
  /** PEM files, each null where there is none. */
  record Tls(Path roots, Path certificate, Path key) {}

  private record Pem(String roots, String certificate, String key) {}

  private record Known(Pem pem, SslContext context) {}

  private final Tls files;
  private volatile Known known;

  /** Throws IllegalArgumentException for files that are none, UncheckedIOException for those that cannot be read. */
  Certificates(Tls files) {
    this.files = files;
    try {
      known = built(read());
    } catch (SSLException | IllegalArgumentException error) {
      throw new IllegalArgumentException(
          "the certificates of " + named() + " cannot be used: " + error.getMessage(), error);
    } catch (IOException error) {
      throw new UncheckedIOException("a certificate cannot be read", error);
    }
  }

  @Override
  public SSLEngine newEngine(ByteBufAllocator allocator) {
    return now().newEngine(allocator);
  }

  @Override
  public SSLEngine newEngine(ByteBufAllocator allocator, String host, int port) {
    return now().newEngine(allocator, host, port);
  }

  @Override
  public boolean isClient() {
    return true;
  }

  @Override
  public List<String> cipherSuites() {
    return known.context.cipherSuites();
  }

  @Override
  @SuppressWarnings("deprecation") // netty asks every context for one
  public ApplicationProtocolNegotiator applicationProtocolNegotiator() {
    return known.context.applicationProtocolNegotiator();
  }

  @Override
  public SSLSessionContext sessionContext() {
    return known.context.sessionContext();
  }

  private SslContext now() {
    try {
      Pem found = read();
      if (!found.equals(known.pem)) {
        known = built(found);
      }
    } catch (IOException | IllegalArgumentException error) {
      // In the middle of being replaced, or replaced by what is none: the next connection looks again.
      return known.context;
    }
    return known.context;
  }

  private Pem read() throws IOException {
    return new Pem(text(files.roots), text(files.certificate), text(files.key));
  }

  private static Known built(Pem pem) throws SSLException {
    SslContextBuilder builder = GrpcSslContexts.forClient();
    if (pem.roots != null) {
      builder.trustManager(stream(pem.roots));
    }
    if (pem.certificate != null) {
      builder.keyManager(stream(pem.certificate), stream(pem.key));
    }
    return new Known(pem, builder.build());
  }

  private String named() {
    return files.certificate == null ? String.valueOf(files.roots) : files.certificate + " and " + files.key;
  }

  private static String text(Path file) throws IOException {
    // Bytes as they are: PEM is ASCII, and what is not is no certificate.
    return file == null ? null : Files.readString(file, StandardCharsets.ISO_8859_1);
  }

  private static InputStream stream(String pem) {
    return new ByteArrayInputStream(pem.getBytes(StandardCharsets.ISO_8859_1));
  }
}

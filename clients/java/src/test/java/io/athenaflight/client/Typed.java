package io.athenaflight.client;

import java.math.BigDecimal;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/** Arguments written in JSON as the Java values that a program would have for parameters of a contract's types. */
final class Typed {
  private Typed() {}

  static Map<String, Object> arguments(Contract contract, Map<String, Object> written) {
    Map<String, String> types =
        contract.params().stream().collect(Collectors.toMap(each -> each.name(), each -> each.type()));
    Map<String, Object> found = new LinkedHashMap<>();
    written.forEach((name, value) -> found.put(name, value(types.get(name), value)));
    return found;
  }

  private static Object value(String type, Object written) {
    if (type.startsWith("list<")) {
      String item = type.substring("list<".length(), type.length() - 1);
      return ((List<?>) written).stream().map(each -> value(item, each)).toList();
    }
    if (type.startsWith("map<")) {
      String[] parts = type.substring("map<".length(), type.length() - 1).split(", ");
      Map<Object, Object> found = new LinkedHashMap<>();
      ((Map<?, ?>) written).forEach((key, item) -> found.put(value(parts[0], key), value(parts[1], item)));
      return found;
    }
    String text = String.valueOf(written);
    return switch (type.replaceAll("\\(\\d.*", "")) {
      case "int32" -> Integer.valueOf(text);
      case "int64" -> Long.valueOf(text);
      case "float32" -> Float.valueOf(text);
      case "float64" -> Double.valueOf(text);
      case "decimal" -> new BigDecimal(text);
      case "date" -> LocalDate.parse(text);
      case "timestamp" -> LocalDateTime.parse(text);
      case "timestamp(tz)" -> OffsetDateTime.parse(text).toInstant();
      default -> written;
    };
  }
}

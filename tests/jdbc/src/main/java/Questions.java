import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.ParameterMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * Asks a server through JDBC. Each line of standard input is a question, its parts separated by tabs; each is answered
 * by one line of JSON: {"columns": [[name, type, nullable], ...], "rows": [...]}, some other value, or {"error": ...}.
 */
public final class Questions {
  private static Connection connection;

  public static void main(String[] args) throws Exception {
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      String answer;
      try {
        answer = json(answer(line.replace('\u2028', '\n').split("\t", -1)));
      } catch (SQLException | RuntimeException error) {
        answer = json(Map.of("error", messages(error), "kind", error.getClass().getSimpleName()));
      }
      out.println(answer);
    }
    System.exit(0);
  }

  private static Object answer(String[] parts) throws SQLException {
    switch (parts[0]) {
      case "open":
        // A connection that cannot be opened leaves none behind that could answer in its place.
        connection = null;
        connection = DriverManager.getConnection(parts[1]);
        return "open";
      case "close":
        connection.close();
        return "closed";
      case "query":
        try (Statement statement = connection.createStatement()) {
          return table(statement.executeQuery(parts[1]));
        }
      case "prepare":
        return prepared(parts);
      case "again":
        return again(parts);
      case "update":
        try (Statement statement = connection.createStatement()) {
          return statement.executeUpdate(parts[1]);
        }
      case "two":
        return two(parts[1], parts[2]);
      case "leave":
        return leave(parts[1]);
      case "cancel":
        return cancel(parts[1]);
      case "timed":
        return timed(parts[1], Integer.parseInt(parts[2]));
      case "batch":
        try (PreparedStatement statement = connection.prepareStatement(parts[1])) {
          statement.addBatch();
          return statement.executeBatch();
        }
      case "getters":
        return getters(connection.getMetaData());
      default:
        return table(metadata(connection.getMetaData(), parts));
    }
  }

  private static ResultSet metadata(DatabaseMetaData data, String[] parts) throws SQLException {
    String[] p = Arrays.stream(Arrays.copyOf(parts, 5)).map(x -> "".equals(x) ? null : x).toArray(String[]::new);
    switch (parts[0]) {
      case "catalogs":
        return data.getCatalogs();
      case "schemas":
        return data.getSchemas(p[1], p[2]);
      case "tables":
        return data.getTables(p[1], p[2], p[3], p[4] == null ? null : p[4].split(","));
      case "columns":
        return data.getColumns(p[1], p[2], p[3], p[4]);
      case "types":
        return data.getTableTypes();
      case "primary":
        return data.getPrimaryKeys(p[1], p[2], p[3]);
      case "imported":
        return data.getImportedKeys(p[1], p[2], p[3]);
      case "exported":
        return data.getExportedKeys(p[1], p[2], p[3]);
      case "cross":
        return data.getCrossReference(p[1], p[2], p[3], p[1], p[2], p[3]);
      case "typeinfo":
        return data.getTypeInfo();
      default:
        throw new IllegalArgumentException(parts[0]);
    }
  }

  /** prepare, SQL, then kind=value for each parameter. */
  private static Object prepared(String[] parts) throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement(parts[1])) {
      ParameterMetaData described = statement.getParameterMetaData();
      List<Object> types = new ArrayList<>();
      for (int i = 1; i <= described.getParameterCount(); i++) {
        types.add(described.getParameterTypeName(i));
      }
      bind(statement, Arrays.asList(parts).subList(2, parts.length));
      Map<String, Object> found = table(statement.executeQuery());
      found.put("parameters", types);
      return found;
    }
  }

  /** again, SQL, kind=value, kind=value: the statement is run once with each of the values. */
  private static Object again(String[] parts) throws SQLException {
    List<Object> found = new ArrayList<>();
    try (PreparedStatement statement = connection.prepareStatement(parts[1])) {
      for (String value : Arrays.asList(parts).subList(2, parts.length)) {
        bind(statement, List.of(value));
        found.add(table(statement.executeQuery()));
      }
    }
    return found;
  }

  private static void bind(PreparedStatement statement, List<String> values) throws SQLException {
    for (int i = 0; i < values.size(); i++) {
      String[] pair = values.get(i).split("=", 2);
      int at = i + 1;
      switch (pair[0]) {
        case "null" -> statement.setNull(at, Types.NULL);
        case "string" -> statement.setString(at, pair[1]);
        case "int" -> statement.setInt(at, Integer.parseInt(pair[1]));
        case "long" -> statement.setLong(at, Long.parseLong(pair[1]));
        case "float" -> statement.setFloat(at, Float.parseFloat(pair[1]));
        case "double" -> statement.setDouble(at, Double.parseDouble(pair[1]));
        case "decimal" -> statement.setBigDecimal(at, new BigDecimal(pair[1]));
        case "boolean" -> statement.setBoolean(at, Boolean.parseBoolean(pair[1]));
        case "date" -> statement.setDate(at, Date.valueOf(pair[1]));
        case "timestamp" -> statement.setTimestamp(at, Timestamp.valueOf(pair[1]));
        case "ints" -> statement.setArray(
            at, connection.createArrayOf("INTEGER", Arrays.stream(pair[1].split(",")).map(Integer::valueOf).toArray()));
        default -> throw new IllegalArgumentException(pair[0]);
      }
    }
  }

  /** Two results open at once, read row by row in turns. */
  private static Object two(String first, String second) throws SQLException {
    try (Statement one = connection.createStatement(); Statement other = connection.createStatement();
        ResultSet left = one.executeQuery(first); ResultSet right = other.executeQuery(second)) {
      List<Object> rows = new ArrayList<>();
      boolean more = true;
      while (more) {
        boolean a = left.next();
        boolean b = right.next();
        more = a || b;
        if (more) {
          rows.add(Arrays.asList(a ? value(left, 1) : null, b ? value(right, 1) : null));
        }
      }
      return rows;
    }
  }

  /** Read one row and close the result: how BI tools leave a query. */
  private static Object leave(String sql) throws SQLException {
    Statement statement = connection.createStatement();
    ResultSet rows = statement.executeQuery(sql);
    boolean any = rows.next();
    rows.close();
    statement.close();
    return any;
  }

  /** Cancel from another thread while rows are read; answers what the reader met. */
  private static Object cancel(String sql) {
    long count = 0;
    try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
      Thread other = new Thread(() -> {
        try {
          statement.cancel();
        } catch (SQLException error) {
          throw new IllegalStateException(error);
        }
      });
      while (rows.next()) {
        if (++count == 1) {
          other.start();
        }
      }
      return "read to the end";
    } catch (SQLException | RuntimeException error) {
      return count > 0 ? "stopped" : "failed: " + messages(error);
    }
  }

  /** Run with a time limit of the driver's. */
  private static Object timed(String sql, int seconds) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.setQueryTimeout(seconds);
      return table(statement.executeQuery(sql));
    }
  }

  /** All getters without arguments, by name; those that fail as their error. */
  private static Object getters(DatabaseMetaData data) {
    Map<String, Object> found = new TreeMap<>();
    for (Method method : DatabaseMetaData.class.getMethods()) {
      Class<?> type = method.getReturnType();
      boolean plain = type.isPrimitive() || type == String.class;
      if (method.getParameterCount() == 0 && plain && type != void.class) {
        try {
          found.put(method.getName(), method.invoke(data));
        } catch (InvocationTargetException error) {
          found.put(method.getName(), Map.of("error", messages(error.getCause())));
        } catch (IllegalAccessException error) {
          throw new IllegalStateException(error);
        }
      }
    }
    return found;
  }

  private static Map<String, Object> table(ResultSet rows) throws SQLException {
    try (rows) {
      ResultSetMetaData described = rows.getMetaData();
      List<Object> columns = new ArrayList<>();
      for (int i = 1; i <= described.getColumnCount(); i++) {
        columns.add(Arrays.asList(described.getColumnLabel(i), described.getColumnTypeName(i), described.isNullable(i)));
      }
      List<Object> values = new ArrayList<>();
      while (rows.next()) {
        List<Object> row = new ArrayList<>();
        for (int i = 1; i <= described.getColumnCount(); i++) {
          row.add(value(rows, i));
        }
        values.add(row);
      }
      Map<String, Object> found = new LinkedHashMap<>();
      found.put("columns", columns);
      found.put("rows", values);
      return found;
    }
  }

  private static Object value(ResultSet rows, int column) throws SQLException {
    // 18.3.0 has no getObject for these; 17.0.0 has, and 19.0.0 has it again (apache/arrow-java#818).
    boolean zoned = rows.getMetaData().getColumnType(column) == Types.TIMESTAMP_WITH_TIMEZONE;
    Object found = zoned ? rows.getTimestamp(column) : rows.getObject(column);
    if (rows.wasNull() != (found == null)) {
      throw new IllegalStateException("wasNull() and getObject() disagree");
    }
    return copied(found);
  }

  /** The value, no longer bound to the vectors of its result: arrays are read while the result is open. */
  private static Object copied(Object value) throws SQLException {
    if (value instanceof Array) {
      return copied(((Array) value).getArray());
    }
    if (value instanceof Object[]) {
      List<Object> items = new ArrayList<>();
      for (Object item : (Object[]) value) {
        items.add(copied(item));
      }
      return items;
    }
    return value;
  }

  private static String messages(Throwable error) {
    StringBuilder text = new StringBuilder();
    for (Throwable each = error; each != null; each = each.getCause()) {
      text.append(text.length() == 0 ? "" : " | ").append(each.getMessage());
    }
    return text.toString();
  }

  private static String json(Object value) {
    if (value == null || value instanceof Boolean || value instanceof Integer || value instanceof Long
        || value instanceof Short || value instanceof Byte) {
      return String.valueOf(value);
    }
    if (value instanceof Float || value instanceof Double) {
      double number = ((Number) value).doubleValue();
      return Double.isFinite(number) ? Double.toString(number) : quoted(Double.toString(number));
    }
    if (value instanceof BigDecimal) {
      return quoted(((BigDecimal) value).toPlainString());
    }
    if (value instanceof Timestamp) {
      return quoted(((Timestamp) value).toLocalDateTime().toString());
    }
    if (value instanceof byte[]) {
      return quoted(new String((byte[]) value, StandardCharsets.ISO_8859_1));
    }
    List<String> parts = new ArrayList<>();
    if (value instanceof List) {
      ((List<?>) value).forEach(item -> parts.add(json(item)));
      return "[" + String.join(", ", parts) + "]";
    }
    if (value instanceof Map) {
      ((Map<?, ?>) value).forEach((key, item) -> parts.add(quoted(String.valueOf(key)) + ": " + json(item)));
      return "{" + String.join(", ", parts) + "}";
    }
    return quoted(value.toString());
  }

  private static String quoted(String text) {
    StringBuilder out = new StringBuilder("\"");
    for (char c : text.toCharArray()) {
      if (c == '"' || c == '\\' || c < ' ' || c > '~') {
        out.append(String.format("\\u%04x", (int) c));
      } else {
        out.append(c);
      }
    }
    return out.append('"').toString();
  }
}

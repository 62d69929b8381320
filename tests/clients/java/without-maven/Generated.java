package javax.annotation;

/** What generated code is marked with; stands in for jakarta.annotation-api. */
public @interface Generated {
    String[] value();

    String date() default "";

    String comments() default "";
}

// swagger-ui on this controller's own document. It asks nobody else.

window.SwaggerUIBundle({
  url: "/v1/openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  docExpansion: "none",
  defaultModelsExpandDepth: 0,
  persistAuthorization: false,
  tagsSorter: "alpha",
  validatorUrl: null,
});

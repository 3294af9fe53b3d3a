// The API's page: a file, since the pages' security policy allows no script within them.
"use strict";

SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true });

{{- /* Generated from the pydantic models by `make crds`; do not edit. */ -}}
{{- define "mdb-operator.crdName" -}}
mdbapps.mdb-engine.dev
{{- end -}}
{{- define "mdb-operator.crdLabels" -}}
servicebinding.io/provisioned-service: 'true'
{{- end -}}
{{- define "mdb-operator.crdHash" -}}
db25a83e975e0217
{{- end -}}
{{- define "mdb-operator.crdSpec" -}}
group: mdb-engine.dev
scope: Namespaced
names:
  kind: MdbApp
  listKind: MdbAppList
  plural: mdbapps
  singular: mdbapp
  shortNames:
  - mdba
  categories:
  - mdb
versions:
- name: v1
  served: true
  storage: true
  subresources:
    status: {}
  selectableFields:
  - jsonPath: .spec.slug
  additionalPrinterColumns:
  - name: Slug
    type: string
    jsonPath: .spec.slug
    description: Identity of the app in MongoDB
  - name: Ready
    type: string
    jsonPath: .status.conditions[?(@.type=="Ready")].status
    description: Whether it may start
  - name: Reason
    type: string
    jsonPath: .status.conditions[?(@.type=="Ready")].reason
    description: Why or why not
  - name: Secret
    type: string
    jsonPath: .status.binding.name
    description: The Secret to mount
  - name: Version
    type: integer
    jsonPath: .status.secret.version
    description: Version of the app's secret
  - name: Class
    type: string
    jsonPath: .spec.operatorClass
    description: Who is to handle it
    priority: 1
  - name: Installation
    type: string
    jsonPath: .status.installation
    description: Who does handle it
    priority: 1
  - name: Age
    type: date
    jsonPath: .metadata.creationTimestamp
    description: Since when it exists
  schema:
    openAPIV3Schema:
      type: object
      description: An app that shares a MongoDB database with others. The operator registers it, makes
        its secret and projects it into a Secret that the app's pods mount.
      required:
      - spec
      properties:
        apiVersion:
          type: string
          description: Always mdb-engine.dev/v1.
        kind:
          type: string
          description: Always MdbApp.
        metadata:
          type: object
        spec:
          description: 'An app that shares the MongoDB database: its identity, its data and whom it trusts.'
          properties:
            slug:
              description: The app's identity in MongoDB and the prefix of its collections. Unique in
                the database, where - and _ count as one character; it cannot be changed later.
              maxLength: 48
              minLength: 1
              pattern: ^[a-z0-9][a-z0-9_-]{0,47}$
              type: string
            displayName:
              maxLength: 128
              minLength: 1
              type: string
              description: The app's name for people; by default its slug.
            description:
              maxLength: 1024
              type: string
              description: What the app is for, in a sentence or two.
            dataAccess:
              description: Whose data the app reads, and who may read its own.
              properties:
                readScopes:
                  items:
                    maxLength: 48
                    minLength: 1
                    pattern: ^[a-z0-9][a-z0-9_-]{0,47}$
                    type: string
                  maxItems: 64
                  minItems: 1
                  type: array
                  description: 'Slugs of the apps whose data this app reads, its own included; by default
                    only its own. Another app''s data is granted only where that app consents: by living
                    in the same namespace, or by its own dataAccess.readers.'
                  x-kubernetes-list-type: set
                writeScope:
                  maxLength: 48
                  minLength: 1
                  pattern: ^[a-z0-9][a-z0-9_-]{0,47}$
                  type: string
                  description: 'The slug under which the app writes: its own, which is also the default.'
                crossAppPolicy:
                  default: Explicit
                  description: 'Explicit: data crosses between apps where the reader names the owner and
                    the owner consents. DenyAll: this app neither reads other apps'' data nor is read
                    by them.'
                  enum:
                  - Explicit
                  - DenyAll
                  type: string
                readers:
                  default: []
                  description: Who else may name this app in their readScopes, besides the apps of its
                    own namespace.
                  items:
                    description: An app, or all apps of a namespace, that may read this app's data if
                      they ask for it.
                    properties:
                      namespace:
                        description: The namespace whose apps may read this app's data; * means every
                          namespace.
                        maxLength: 63
                        pattern: ^(\*|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)$
                        type: string
                      slug:
                        maxLength: 48
                        minLength: 1
                        pattern: ^[a-z0-9][a-z0-9_-]{0,47}$
                        type: string
                        description: The slug of the one app there that may; absent means every app of
                          it.
                    required:
                    - namespace
                    type: object
                  maxItems: 64
                  type: array
              type: object
              default: {}
            collections:
              default: []
              description: The app's collections. They are created with their indexes; data that is there
                already is kept, and a collection removed from this list keeps its data, and its name,
                until the app is deleted.
              items:
                description: One collection of the app.
                properties:
                  preImages:
                    type: boolean
                    description: 'Whether MongoDB keeps documents as they were before a change, for change
                      streams. Absent: as it is.'
                  capped:
                    description: A fixed size. A collection that is there already cannot become capped.
                    properties:
                      sizeBytes:
                        description: Its size in bytes. It can be raised later, and not be lowered.
                        maximum: 1125899906842624
                        minimum: 4096
                        type: integer
                      maxDocuments:
                        maximum: 2147483647
                        minimum: 1
                        type: integer
                        description: How many documents it holds at most, if they fit into sizeBytes.
                    required:
                    - sizeBytes
                    type: object
                  timeSeries:
                    description: 'Measurements by time. A collection that is there already cannot become
                      one, and MongoDB itself does not hold the stamp in it: only the library does.'
                    properties:
                      timeField:
                        description: The field with the time of a measurement. It cannot be changed later.
                        maxLength: 256
                        minLength: 1
                        pattern: ^[^$.\x00][^.\x00]*$
                        type: string
                      metaField:
                        maxLength: 256
                        minLength: 1
                        pattern: ^[^$.\x00][^.\x00]*$
                        type: string
                        description: The field that says what was measured. It cannot be changed later.
                      granularity:
                        description: How far measurements lie apart. It can become coarser later.
                        enum:
                        - seconds
                        - minutes
                        - hours
                        type: string
                      expireAfterSeconds:
                        maximum: 2147483647
                        minimum: 1
                        type: integer
                        description: Delete measurements this many seconds after their time.
                    required:
                    - timeField
                    type: object
                  collation:
                    description: How strings are compared; of a collection that is there it cannot be
                      changed.
                    properties:
                      locale:
                        description: The language, such as en, de or de@collation=phonebook; simple for
                          bytes.
                        maxLength: 32
                        minLength: 2
                        pattern: ^[A-Za-z][A-Za-z0-9_@=;-]*$
                        type: string
                      strength:
                        maximum: 5
                        minimum: 1
                        type: integer
                        description: 'What counts: 1 letters alone, 2 accents as well, 3 (the default)
                          case too.'
                      caseLevel:
                        type: boolean
                        description: Whether case counts at strength 1 and 2.
                      numericOrdering:
                        type: boolean
                        description: 'Whether digits are compared as numbers: 2 before 10.'
                    required: &id001
                    - locale
                    type: object
                  name:
                    description: The collection's name in the app's code; in MongoDB it is <slug>_<name>.
                    maxLength: 48
                    minLength: 1
                    pattern: ^[a-zA-Z0-9][a-zA-Z0-9_-]{0,47}$
                    type: string
                  indexes:
                    description: Indexes of the collection. One that is changed here is changed in place
                      or built beside the former, which is dropped afterwards; one that is removed here
                      is dropped. Indexes that were not made from this list are left alone.
                    items:
                      description: One index of a collection.
                      properties:
                        name:
                          maxLength: 96
                          minLength: 1
                          pattern: ^[A-Za-z0-9][A-Za-z0-9_.-]*$
                          type: string
                          description: The index's name; by default made of its fields, as MongoDB does.
                        keys:
                          description: The fields of the index, in order.
                          items:
                            description: One field of an index.
                            properties:
                              field:
                                description: The path of the field in the document, with dots into embedded
                                  documents.
                                maxLength: 256
                                minLength: 1
                                pattern: ^[^$.\x00]+(\.[^$.\x00]+)*$
                                type: string
                              order:
                                description: 1 for ascending, -1 for descending; only for a field of kind
                                  Ordered.
                                enum:
                                - 1
                                - -1
                                type: integer
                              kind:
                                description: Ordered for equality, ranges and sorting; Text for words;
                                  2dsphere or 2d for places; Hashed for equality alone; Wildcard for all
                                  fields below this one, or all where field is *.
                                enum:
                                - Ordered
                                - Text
                                - 2dsphere
                                - 2d
                                - Hashed
                                - Wildcard
                                type: string
                              weight:
                                description: How much a match in this field counts against others; only
                                  for kind Text.
                                maximum: 99999
                                minimum: 1
                                type: integer
                            required:
                            - field
                            type: object
                            x-kubernetes-validations:
                            - rule: '!has(self.kind) || self.kind == ''Ordered'' || !has(self.order) ||
                                self.order == 1'
                              message: order applies to the kind Ordered only
                            - rule: '!has(self.weight) || self.weight == 1 || (has(self.kind) && self.kind
                                == ''Text'')'
                              message: weight applies to the kind Text only
                          maxItems: 32
                          minItems: 1
                          type: array
                          x-kubernetes-list-type: map
                          x-kubernetes-list-map-keys:
                          - field
                        unique:
                          description: Whether two documents may not have the same values.
                          type: boolean
                        sparse:
                          description: Whether documents without the fields are left out.
                          type: boolean
                        expireAfterSeconds:
                          maximum: 2147483647
                          minimum: 0
                          type: integer
                          description: Delete documents this many seconds after the date in the index's
                            only field.
                        partialFilter:
                          description: Index only the documents that meet all of these conditions.
                          items:
                            description: One condition on the documents that a partial index holds.
                            properties:
                              stringValue:
                                maxLength: 256
                                type: string
                                description: The value, if it is a string.
                              numberValue:
                                maximum: 9007199254740992
                                minimum: -9007199254740992
                                type: number
                                description: The value, if it is a number.
                              booleanValue:
                                type: boolean
                                description: The value, if it is true or false.
                              dateValue:
                                maxLength: 30
                                pattern: ^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,3})?Z$
                                type: string
                                description: 'The value, if it is a time: 2026-01-31T12:00:00Z, in UTC.'
                              nullValue:
                                type: boolean
                                description: 'Only true: the value is null, or the field is missing.'
                                enum:
                                - true
                              field:
                                description: The path of the field that is compared.
                                maxLength: 256
                                minLength: 1
                                pattern: ^[^$.\x00]+(\.[^$.\x00]+)*$
                                type: string
                              operator:
                                description: 'How it is compared: eq, gt, gte, lt, lte, in (with values),
                                  exists (with booleanValue true) or type (with stringValue, the name
                                  of a BSON type).'
                                enum:
                                - eq
                                - gt
                                - gte
                                - lt
                                - lte
                                - exists
                                - type
                                - in
                                type: string
                              values:
                                description: The values of which the field has one; only for in.
                                items:
                                  description: One of the values that a field may have.
                                  maxProperties: 1
                                  minProperties: 1
                                  properties:
                                    stringValue:
                                      maxLength: 256
                                      type: string
                                      description: The value, if it is a string.
                                    numberValue:
                                      maximum: 9007199254740992
                                      minimum: -9007199254740992
                                      type: number
                                      description: The value, if it is a number.
                                    booleanValue:
                                      type: boolean
                                      description: The value, if it is true or false.
                                    dateValue:
                                      maxLength: 30
                                      pattern: ^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,3})?Z$
                                      type: string
                                      description: 'The value, if it is a time: 2026-01-31T12:00:00Z,
                                        in UTC.'
                                    nullValue:
                                      type: boolean
                                      description: 'Only true: the value is null, or the field is missing.'
                                      enum:
                                      - true
                                  type: object
                                maxItems: 16
                                type: array
                            required:
                            - field
                            type: object
                            x-kubernetes-validations:
                            - message: exactly one of stringValue, numberValue, booleanValue, dateValue,
                                nullValue and values is needed
                              rule: '[has(self.stringValue), has(self.numberValue), has(self.booleanValue),
                                has(self.dateValue), has(self.nullValue), has(self.values)].filter(given,
                                given).size() == 1'
                            - message: values is for the operator in, which needs it
                              rule: has(self.values) == (has(self.operator) && self.operator == 'in')
                            - rule: '!has(self.operator) || self.operator != ''exists'' || (has(self.booleanValue)
                                && self.booleanValue)'
                              message: 'operator exists needs booleanValue: true, MongoDB''s partial indexes
                                know no other'
                            - rule: '!has(self.operator) || self.operator != ''type'' || has(self.stringValue)'
                              message: operator type needs stringValue, the name of a BSON type
                            - rule: '!has(self.nullValue) || !has(self.operator) || self.operator == ''eq'''
                              message: nullValue is compared with eq alone
                          maxItems: 16
                          type: array
                        defaultLanguage:
                          maxLength: 32
                          pattern: ^[a-z_]+$
                          type: string
                          description: The language of a text index, for stems and stop words; MongoDB's
                            is english.
                        collation:
                          description: How strings are compared; by default as in the collection.
                          properties:
                            locale:
                              description: The language, such as en, de or de@collation=phonebook; simple
                                for bytes.
                              maxLength: 32
                              minLength: 2
                              pattern: ^[A-Za-z][A-Za-z0-9_@=;-]*$
                              type: string
                            strength:
                              maximum: 5
                              minimum: 1
                              type: integer
                              description: 'What counts: 1 letters alone, 2 accents as well, 3 (the default)
                                case too.'
                            caseLevel:
                              type: boolean
                              description: Whether case counts at strength 1 and 2.
                            numericOrdering:
                              type: boolean
                              description: 'Whether digits are compared as numbers: 2 before 10.'
                          required: *id001
                          type: object
                      required:
                      - keys
                      type: object
                      x-kubernetes-validations:
                      - rule: '!has(self.expireAfterSeconds) || (self.keys.size() == 1 && self.keys.all(k,
                          !has(k.kind) || k.kind == ''Ordered''))'
                        message: expireAfterSeconds needs keys to have exactly one field, of kind Ordered
                      - rule: '!has(self.sparse) || !self.sparse || !has(self.partialFilter) || self.partialFilter.size()
                          == 0'
                        message: sparse and partialFilter exclude each other
                      - rule: '!self.keys.exists(k, has(k.kind) && k.kind == ''Wildcard'') || (self.keys.size()
                          == 1 && (!has(self.sparse) || !self.sparse))'
                        message: a key of kind Wildcard stands alone, in an index that is not sparse
                      - rule: self.keys.filter(k, has(k.kind) && k.kind == 'Hashed').size() <= 1
                        message: an index has one key of kind Hashed at most
                      - rule: '!has(self.collation) || !self.keys.exists(k, has(k.kind) && (k.kind ==
                          ''Text'' || k.kind == ''2d''))'
                        message: collation is not for keys of kind Text or 2d
                      - rule: '!has(self.unique) || !self.unique || self.keys.all(k, !has(k.kind) || k.kind
                          == ''Ordered'')'
                        message: unique needs all keys to be of kind Ordered
                      - rule: '!has(self.defaultLanguage) || self.keys.exists(k, has(k.kind) && k.kind
                          == ''Text'')'
                        message: defaultLanguage needs a key of kind Text
                    maxItems: 48
                    type: array
                  validator:
                    maxLength: 16384
                    type: string
                    description: 'What MongoDB refuses documents by, as JSON: a query, such as {"$jsonSchema":
                      ...}. It stands beside the one that holds app_id; documents that are there stay.'
                  searchIndexes:
                    description: Indexes for $search and $vectorSearch, where the server has them.
                    items:
                      description: An index for ``$search`` or ``$vectorSearch``.
                      properties:
                        name:
                          description: The index's name, which queries use.
                          maxLength: 96
                          minLength: 1
                          pattern: ^[A-Za-z0-9][A-Za-z0-9_.-]*$
                          type: string
                        type:
                          description: 'What it is for: search for words, vectorSearch for vectors.'
                          enum:
                          - search
                          - vectorSearch
                          type: string
                        definition:
                          description: Its definition, as JSON; app_id is put into it, which the engine
                            filters by.
                          maxLength: 16384
                          type: string
                      required:
                      - name
                      - definition
                      type: object
                    maxItems: 8
                    type: array
                    x-kubernetes-list-map-keys:
                    - name
                    x-kubernetes-list-type: map
                  adopt:
                    description: A collection that was there before and becomes this one, with its documents.
                    properties:
                      from:
                        description: The name of a collection of the same database. Its documents are
                          stamped with the app's slug, and it is renamed to this app's collection; nobody
                          else may use it.
                        maxLength: 120
                        minLength: 1
                        pattern: ^[A-Za-z0-9_][A-Za-z0-9_.-]*$
                        type: string
                    required:
                    - from
                    type: object
                required:
                - name
                type: object
                x-kubernetes-validations:
                - rule: '!has(self.timeSeries) || (!has(self.capped) && !has(self.preImages) && !has(self.validator)
                    && !has(self.adopt))'
                  message: timeSeries excludes capped, preImages, validator and adopt
                - rule: '!has(self.indexes) || self.indexes.filter(i, i.keys.exists(k, has(k.kind) &&
                    k.kind == ''Text'')).size() <= 1'
                  message: 'indexes: a collection can have one text index only'
              maxItems: 64
              type: array
              x-kubernetes-list-map-keys:
              - name
              x-kubernetes-list-type: map
            secret:
              description: The Kubernetes Secret that the app's pods mount, and when its values change.
              properties:
                name:
                  maxLength: 253
                  pattern: ^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$
                  type: string
                  description: The name of the Secret; by default the name of this MdbApp followed by
                    -mdb.
                rotationPeriodSeconds:
                  default: 0
                  description: Rotate when the current secret is this many seconds old; 0 only on request.
                  maximum: 315360000
                  minimum: 0
                  type: integer
                  x-kubernetes-validations:
                  - message: must be 0 or at least 600 seconds
                    rule: self == 0 || self >= 600
                overlapSeconds:
                  default: 600
                  description: For how many seconds a previous secret still works after a rotation. A
                    mounted Secret takes up to a minute and a half to change inside a pod.
                  maximum: 604800
                  minimum: 120
                  type: integer
              type: object
              default: {}
            restart:
              default: []
              description: Workloads of the same namespace to restart when the secret's version changes.
                Apps that read the mounted Secret through the library need none.
              items:
                description: A workload to restart when the secret's version changes.
                properties:
                  kind:
                    description: 'The kind of the workload: Deployment, StatefulSet or DaemonSet.'
                    enum:
                    - Deployment
                    - StatefulSet
                    - DaemonSet
                    type: string
                  name:
                    description: The name of the workload, in the namespace of this MdbApp.
                    maxLength: 253
                    minLength: 1
                    pattern: ^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$
                    type: string
                required:
                - kind
                - name
                type: object
              maxItems: 16
              type: array
              x-kubernetes-list-type: map
              x-kubernetes-list-map-keys:
              - kind
              - name
            deletionPolicy:
              default: Retain
              description: What becomes of the app's data when this MdbApp is deleted. Retain keeps it,
                and the slug, for this namespace; Delete drops its collections. The secret and all access
                end either way.
              enum:
              - Retain
              - Delete
              type: string
            operatorClass:
              default: default
              description: 'The class of the operator''s installations that handle this app. Changing
                it hands the app over: the former installation ends all access and keeps the data in its
                database, and one of the new class registers the app anew in its own.'
              maxLength: 63
              pattern: ^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$
              type: string
            suspend:
              default: false
              description: 'While true, the operator writes nothing for this app but its status: no repair,
                no rotation. Deletion still works.'
              type: boolean
          required:
          - slug
          type: object
          x-kubernetes-validations:
          - message: slug is immutable
            rule: self.slug == oldSelf.slug
          - message: dataAccess.readScopes must hold the app's own slug
            rule: '!has(self.dataAccess) || !has(self.dataAccess.readScopes) || self.slug in self.dataAccess.readScopes'
          - message: dataAccess.writeScope must be the app's own slug
            rule: '!has(self.dataAccess) || !has(self.dataAccess.writeScope) || self.dataAccess.writeScope
              == self.slug'
        status:
          description: What the operator last saw and did. Written by the operator alone.
          properties:
            observedGeneration:
              maximum: 9007199254740992
              minimum: -1
              type: integer
              description: The generation that this status is about; -1 before the operator has seen it.
            installation:
              maxLength: 320
              minLength: 1
              type: string
              description: 'Which installation of the operator handles this app: the first of its class
                to claim it. No other touches it as long as this is there.'
            conditions:
              items:
                description: One condition, as the conventions of the Kubernetes API have it.
                properties:
                  type:
                    description: 'What the condition is about: Ready, Registered, GrantsResolved, SecretProjected,
                      DatabaseUserReady, WorkloadsRestarted, CollectionsReady or Stalled.'
                    maxLength: 316
                    pattern: ^[A-Za-z][A-Za-z0-9]*$
                    type: string
                  status:
                    description: Whether it holds; Unknown where it could not be found out.
                    enum:
                    - 'True'
                    - 'False'
                    - Unknown
                    type: string
                  reason:
                    description: 'Why, as one word: Provisioned, DatabaseUnavailable, SecretConflict,
                      SlugTaken, CollectionTaken, IndexConflict, IndexBuilding, CollectionAdopting, GrantPending,
                      NotGranted, KeyUnavailable, KubernetesUnavailable, Contended, RestartFailed, Suspended
                      or Deleting.'
                    maxLength: 64
                    minLength: 1
                    pattern: ^[A-Z][A-Za-z]*$
                    type: string
                  message:
                    description: What is so, and what to do next where something is to be done.
                    maxLength: 1024
                    type: string
                  observedGeneration:
                    description: The generation of the resource that was looked at.
                    maximum: 9007199254740992
                    minimum: 0
                    type: integer
                  lastTransitionTime:
                    description: When the status last changed.
                    format: date-time
                    type: string
                required:
                - type
                - status
                - reason
                - message
                - observedGeneration
                - lastTransitionTime
                type: object
              maxItems: 16
              type: array
              description: What holds and why. `Ready` sums the others up.
              x-kubernetes-list-map-keys:
              - type
              x-kubernetes-list-type: map
            binding:
              description: The Secret to mount. Absent as long as there is none that is this app's.
              properties:
                name:
                  description: Name of the projected Secret in the namespace of this resource.
                  maxLength: 253
                  minLength: 1
                  pattern: ^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$
                  type: string
              required:
              - name
              type: object
            secret:
              description: The version of the app's secret and of its master key.
              properties:
                version:
                  description: Version of the secret that is projected.
                  maximum: 9007199254740992
                  minimum: 1
                  type: integer
                keyId:
                  description: Id of the master key under which it is encrypted.
                  maxLength: 256
                  type: string
                rotatedAt:
                  format: date-time
                  type: string
                  description: When this version of the secret was made.
                previousExpiresAt:
                  format: date-time
                  type: string
                  description: Until when the version before it is still accepted; absent when none is.
                certificateExpiresAt:
                  format: date-time
                  type: string
                  description: When the certificate ends that the app logs in to MongoDB with. It is renewed
                    after two thirds of its life; absent where the app has a password.
              required:
              - version
              - keyId
              type: object
            grantedScopes:
              items:
                maxLength: 48
                pattern: ^[a-z0-9][a-z0-9_-]{0,47}$
                type: string
              maxItems: 64
              type: array
              description: The slugs whose data the app may read at this moment, its own included.
              x-kubernetes-list-type: set
            deniedScopes:
              items:
                description: A scope that was asked for and does not hold.
                properties:
                  slug:
                    description: The app whose data was asked for.
                    maxLength: 48
                    pattern: ^[a-z0-9][a-z0-9_-]{0,47}$
                    type: string
                  reason:
                    description: 'GrantPending: no app has this slug yet. NotGranted: it has not consented.'
                    enum:
                    - GrantPending
                    - NotGranted
                    type: string
                required:
                - slug
                - reason
                type: object
              maxItems: 64
              type: array
              description: The slugs that it asked for and may not read, each with the reason.
              x-kubernetes-list-map-keys:
              - slug
              x-kubernetes-list-type: map
          type: object
          default:
            observedGeneration: -1
      x-kubernetes-validations:
      - rule: (has(self.spec.secret) && has(self.spec.secret.name)) || size(self.metadata.name) <= 249
        message: spec.secret.name is needed where metadata.name has more than 249 characters, because
          its default is <metadata.name>-mdb
{{- end -}}

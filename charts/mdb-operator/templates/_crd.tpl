{{- /* Generated from the pydantic models by `make crds`; do not edit. */ -}}
{{- define "mdb-operator.crdName" -}}
mdbapps.mdb-engine.dev
{{- end -}}
{{- define "mdb-operator.crdLabels" -}}
servicebinding.io/provisioned-service: 'true'
{{- end -}}
{{- define "mdb-operator.crdHash" -}}
85568b3ff9f635c3
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
                                pattern: ^[^$.]+(\.[^$.]+)*$
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
                                  2dsphere or 2d for places.
                                enum:
                                - Ordered
                                - Text
                                - 2dsphere
                                - 2d
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
                              field:
                                description: The path of the field that is compared.
                                maxLength: 256
                                minLength: 1
                                pattern: ^[^$.]+(\.[^$.]+)*$
                                type: string
                              operator:
                                description: 'How it is compared: eq, gt, gte, lt, lte, exists (with booleanValue
                                  true) or type.'
                                enum:
                                - eq
                                - gt
                                - gte
                                - lt
                                - lte
                                - exists
                                - type
                                type: string
                              stringValue:
                                maxLength: 256
                                type: string
                                description: The value to compare with, if it is a string; for type, a
                                  BSON type's name.
                              numberValue:
                                maximum: 9007199254740992
                                minimum: -9007199254740992
                                type: number
                                description: The value to compare with, if it is a number.
                              booleanValue:
                                type: boolean
                                description: The value to compare with, if it is true or false.
                            required:
                            - field
                            type: object
                            x-kubernetes-validations:
                            - message: exactly one of stringValue, numberValue, booleanValue is needed
                              rule: '[has(self.stringValue), has(self.numberValue), has(self.booleanValue)].filter(given,
                                given).size() == 1'
                            - rule: '!has(self.operator) || self.operator != ''exists'' || (has(self.booleanValue)
                                && self.booleanValue)'
                              message: 'operator exists needs booleanValue: true, MongoDB''s partial indexes
                                know no other'
                            - rule: '!has(self.operator) || self.operator != ''type'' || has(self.stringValue)'
                              message: operator type needs stringValue, the name of a BSON type
                          maxItems: 16
                          type: array
                        defaultLanguage:
                          maxLength: 32
                          pattern: ^[a-z_]+$
                          type: string
                          description: The language of a text index, for stems and stop words; MongoDB's
                            is english.
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
                      - rule: '!has(self.unique) || !self.unique || self.keys.all(k, !has(k.kind) || k.kind
                          == ''Ordered'')'
                        message: unique needs all keys to be of kind Ordered
                      - rule: '!has(self.defaultLanguage) || self.keys.exists(k, has(k.kind) && k.kind
                          == ''Text'')'
                        message: defaultLanguage needs a key of kind Text
                    maxItems: 48
                    type: array
                required:
                - name
                type: object
                x-kubernetes-validations:
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
                    mounted Secret takes up to about a minute to change inside a pod.
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
                      SlugTaken, CollectionTaken, IndexConflict, IndexBuilding, GrantPending, NotGranted,
                      KeyUnavailable, KubernetesUnavailable, Contended, RestartFailed, Suspended or Deleting.'
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
